"""The battery itself: another package's components get all of it with no new code, and it finds what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENTRY_POINTS = """
[colonnade.components]
receiver.stranger_door = tests.contract.strangers.good:door
processor.stranger_half = tests.contract.strangers.good:half
exporter.stranger_file = tests.contract.strangers.good:file
connector.stranger_twice = tests.contract.strangers.good:twice
extension.stranger_light = tests.contract.strangers.good:light
processor.wrong_alias = tests.contract.strangers.bad:alias
exporter.wrong_leak = tests.contract.strangers.bad:leak
exporter.wrong_file = tests.contract.strangers.bad:file
exporter.wrong_store = tests.contract.strangers.bad:store
exporter.wrong_queue = tests.contract.strangers.bad:queue
extension.wrong_keys = tests.contract.strangers.bad:keys
exporter.wrong_import = tests.contract.strangers.broken:factory
"""
# One scene is enough to see what is left open, and waiting for it takes time.
WHICH = "stranger_ or (wrong_ and not stop_before_start and not double_stop and not cancelled_start)"
LIFE = "test_any_order_of_start_and_stop_is_safe_and_leaves_nothing_open"
Results = dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """(test, component) to what is wrong; empty where the test passed."""
    folder = tmp_path_factory.mktemp("strangers")
    info = folder / "strangers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    report = folder / "report.xml"
    files = [HERE / f"test_{name}.py" for name in ("configuration", "life", "delivery")]
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", WHICH),
            *(f"--junit-xml={report}", f"--basetemp={folder / 'run'}", *map(str, files)),
        ],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 1, ended.stdout[-3000:]
    found: Results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        test, _, parameters = case.get("name", "").partition("[")
        component = next(p for p in parameters.rstrip("]").split("-") if "." in p)
        wrong = [f"{child.get('message')}\n{child.text}" for child in case if child.tag in ("failure", "error")]
        found[test, component] = found.get((test, component), "") + "".join(wrong)
    return found


def test_components_that_keep_the_contract_pass_all_of_it(results: Results) -> None:
    good = {key: wrong for key, wrong in results.items() if ".stranger_" in key[1]}
    assert {component for _, component in good} == {
        line.partition(" ")[0] for line in ENTRY_POINTS.splitlines() if ".good:" in line
    }
    assert len(good) > 45
    assert {key: wrong for key, wrong in good.items() if wrong} == {}


@pytest.mark.parametrize(
    ("component", "test", "says"),
    [
        ("exporter.wrong_import", "test_it_can_be_imported_and_says_what_it_is", "needs a library that is not there"),
        ("processor.wrong_alias", "test_a_processor_leaves_what_it_was_given_as_it_was", "equals"),
        ("exporter.wrong_leak", LIFE, "tasks that still run"),
        ("exporter.wrong_file", LIFE, "leak.txt"),
        ("exporter.wrong_store", LIFE, "ColonnadeError('no')"),
        ("exporter.wrong_queue", "test_an_exporter_takes_the_keys_of_every_exporter", "(7, 3)"),
        ("extension.wrong_keys", "test_unknown_keys_are_refused_with_the_nearest_one", "DID NOT RAISE"),
        ("extension.wrong_keys", "test_every_key_is_described_and_every_secret_is_one", "has no description"),
    ],
)
def test_what_breaks_the_contract_is_found(results: Results, component: str, test: str, says: str) -> None:
    assert says in results[test, component]
