#!/usr/bin/env python3
"""Run a real S3-compatible server (S3Proxy on a local folder) on loopback, as a fixture for tests and benchmarks.

Downloads org.gaul:s3proxy from Maven Central once (55 MB, checked against a pinned SHA-256, kept in --cache), starts it
on a free or given port, and prints ONE line of JSON on stdout when it answers:

    {"server": "s3proxy", "version": "4.1.0", "endpoint": "http://127.0.0.1:41001", "host": "127.0.0.1", "port": 41001,
     "access_key": "test", "secret_key": "testsecret", "region": "us-east-1", "buckets": ["test"], "data": "/tmp/...",
     "log": "/tmp/.../stdout.log", "pid": 123}

Use path-style addresses (endpoint/bucket/key) and plain HTTP. Signatures are checked. PUT and CompleteMultipartUpload
honour If-None-Match and If-Match, atomically against concurrent writers. (S3Proxy itself answers If-Match by a HEAD and
then a PUT, and its parallel deletes can leave empty folders that a listing shows as prefixes: a few lines of Java
around its storage, compiled at install time, put both under locks.) One PUT takes at most 128 MiB; send more in parts.
Bucket names have at least 3 characters. Objects are files under DATA/buckets/BUCKET, so tests may look at them. The
folder's file system must take user extended attributes (ext4, xfs, btrfs, tmpfs since Linux 6.6).

It stops on SIGTERM or SIGINT, and when its stdin reaches end of file if that is a pipe (so it never outlives a test
runner that holds the other end); any other stdin is ignored. Exit status 0 after an asked-for stop, 1 if the server
failed or ended by itself (the end of its log is then on stderr). Without --data the data lives in a temporary folder
that is removed at the end.

Needs Python 3.11+, Maven for the first use, and a JDK 17 or later (--java, else $JAVA_HOME, else java on PATH; a JRE
lacks the compiler that the first use needs). Linux only.

    python s3_server.py                                   # a free port, temporary data, one bucket named test
    python s3_server.py --port 9000 --data ./s3 --bucket raw --bucket lake
    python s3_server.py --set s3proxy.latency-blobstore.put.latency=200     # S3Proxy's own fault injection
    python s3_server.py --install-only                    # fill the cache, for machines without network later
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from launching import HOST, Stop, choose_ports, data_folder, default_java, download_jar, serve

VERSION = "4.1.0"
SHA256 = {"4.1.0": "a4d025969aaf796616ed4b1e2491d87d455ce84bb28cb9db086b2e6aaa68b48d"}

JAVA_SOURCE = """
import java.io.FileReader;
import java.io.InputStream;
import java.util.Objects;
import java.util.Properties;
import java.util.function.Supplier;
import org.gaul.s3proxy.BlobStores;
import org.gaul.s3proxy.S3Proxy;
import org.gaul.s3proxy.blobstore.BlobStore;
import org.gaul.s3proxy.blobstore.ForwardingBlobStore;
import org.gaul.s3proxy.blobstore.domain.MultipartUpload;
import org.gaul.s3proxy.middleware.Middlewares;
import software.amazon.awssdk.services.s3.model.*;

/** S3Proxy over a folder, where no other write to the same key falls between an If-Match comparison and its write. */
public final class AtomicS3Proxy extends ForwardingBlobStore {
    private final Object[] locks = new Object[1024];

    private AtomicS3Proxy(BlobStore store) {
        super(store);
        for (int i = 0; i < locks.length; i++) {
            locks[i] = new Object();
        }
    }

    private <T> T exclusively(String bucket, String key, String ifMatch, Supplier<T> write) {
        synchronized (locks[Math.floorMod(Objects.hash(bucket, key), locks.length)]) {
            if (ifMatch != null && !ifMatch.equals("*")) {
                HeadObjectResponse head = blobMetadata(HeadObjectRequest.builder().bucket(bucket).key(key).build());
                if (head == null || !bare(ifMatch).equals(bare(head.eTag()))) {
                    throw S3Exception.builder().statusCode(412).message("If-Match did not hold").build();
                }
            }
            return write.get();
        }
    }

    private static String bare(String etag) {
        return etag.replace("\\"", "");
    }

    @Override
    public PutObjectResponse putBlob(PutObjectRequest r, InputStream body) {
        return exclusively(r.bucket(), r.key(), r.ifMatch(), () -> super.putBlob(r, body));
    }

    @Override
    public CompleteMultipartUploadResponse completeMultipartUpload(
            MultipartUpload upload, CompleteMultipartUploadRequest r) {
        return exclusively(r.bucket(), r.key(), r.ifMatch(), () -> super.completeMultipartUpload(upload, r));
    }

    @Override
    public CopyObjectResponse copyBlob(CopyObjectRequest r) {
        return exclusively(r.destinationBucket(), r.destinationKey(), null, () -> super.copyBlob(r));
    }

    @Override
    public DeleteObjectResponse removeBlob(DeleteObjectRequest r) {
        synchronized (locks) { // else removing a key and its folder at once can leave an empty folder
            return exclusively(r.bucket(), r.key(), null, () -> super.removeBlob(r));
        }
    }

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        try (FileReader in = new FileReader(args[0])) {
            settings.load(in);
        }
        BlobStore folder = BlobStores.create(settings.getProperty("jclouds.provider"), settings);
        BlobStore store = Middlewares.wrap(new AtomicS3Proxy(folder), settings, p -> {
            throw new IllegalArgumentException("one storage only");
        });
        S3Proxy.Builder.fromProperties(settings).blobStore(store).build().start();
    }
}
"""


def install(cache: Path, version: str, java: str) -> str:
    """Return the class path, with the jar fetched and the Java source above compiled against it if they are not yet."""
    folder = cache / "s3proxy"
    jar = folder / f"s3proxy-{version}.jar"
    if not jar.exists():
        download_jar(f"org.gaul:s3proxy:{version}:jar:jar-with-dependencies", jar, SHA256.get(version))
    classes = folder / f"classes-{version}-{hashlib.sha256(JAVA_SOURCE.encode()).hexdigest()[:12]}"
    if not classes.exists():
        building = Path(tempfile.mkdtemp(dir=folder))
        (building / "AtomicS3Proxy.java").write_text(JAVA_SOURCE)
        subprocess.run(
            [
                java,
                "-m",
                "jdk.compiler/com.sun.tools.javac.Main",
                "--release",
                "17",
                "-d",
                str(building),
                "-cp",
                str(jar),
                str(building / "AtomicS3Proxy.java"),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        try:
            building.rename(classes)
        except OSError:  # another process was first
            shutil.rmtree(building, ignore_errors=True)
    return f"{jar}:{classes}"


def answers(port: int) -> bool:
    """Whether the server replies to an unsigned request (it refuses it)."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument(
        "--cache",
        type=Path,
        default=Path("~/.cache/colonnade-test-servers").expanduser(),
        help="folder for downloaded files (default %(default)s)",
    )
    ap.add_argument("--version", default=VERSION, help="S3Proxy version on Maven Central (default %(default)s)")
    ap.add_argument("--data", type=Path, help="data folder, kept (default: a temporary one, removed at the end)")
    ap.add_argument("--port", type=int, default=0, help="0 = a free port (the default)")
    ap.add_argument("--bucket", action="append", metavar="NAME", help="a bucket to create; may repeat (default: test)")
    ap.add_argument("--access-key", default="test")
    ap.add_argument("--secret-key", default="testsecret")
    ap.add_argument("--java", default=default_java(), help="java executable of a JDK (default %(default)s)")
    ap.add_argument("--xmx", default="512m", help="Java heap limit (default %(default)s)")
    ap.add_argument("--java-opt", action="append", default=[], metavar="OPT", help="a further JVM option; may repeat")
    ap.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an S3Proxy property; may repeat")
    ap.add_argument("--start-timeout", type=float, default=120)
    ap.add_argument("--install-only", action="store_true", help="only fill the cache")
    args = ap.parse_args()
    buckets = args.bucket or ["test"]

    class_path = install(args.cache.expanduser().absolute(), args.version, args.java)
    if args.install_only:
        print(json.dumps({"installed": class_path.split(":")}))
        return 0

    stop = Stop()
    with contextlib.ExitStack() as cleanup:
        root = data_folder(args.data, "s3", cleanup)
        (root / "tmp").mkdir(exist_ok=True)
        for name in buckets:
            (root / "buckets" / name).mkdir(parents=True, exist_ok=True)
        log_path = root / "stdout.log"

        [port] = choose_ports([args.port])
        settings = {
            "s3proxy.endpoint": f"http://{HOST}:{port}",
            "s3proxy.authorization": "aws-v2-or-v4",
            "s3proxy.identity": args.access_key,
            "s3proxy.credential": args.secret_key,
            "jclouds.provider": "filesystem-nio2",
            "jclouds.filesystem.basedir": str(root / "buckets"),
        }
        settings.update(pair.split("=", 1) for pair in args.set)
        properties = root / "s3proxy.conf"
        properties.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))

        command = [
            args.java,
            f"-Xmx{args.xmx}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-DLOG_LEVEL=warn",
            f"-Djava.io.tmpdir={root / 'tmp'}",
            *args.java_opt,
            "-cp",
            class_path,
            "AtomicS3Proxy",
            str(properties),
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("S3PROXY_", "JCLOUDS_"))}
        said = {
            "server": "s3proxy",
            "version": args.version,
            "endpoint": f"http://{HOST}:{port}",
            "host": HOST,
            "port": port,
            "access_key": args.access_key,
            "secret_key": args.secret_key,
            "region": "us-east-1",
            "buckets": buckets,
            "data": str(root),
        }
        return serve(
            "s3proxy",
            command,
            environment,
            log_path,
            stop,
            port=port,
            answers=answers,
            said=said,
            timeout_s=args.start_timeout,
        )


if __name__ == "__main__":
    sys.exit(main())
