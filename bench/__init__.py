"""What a million rows cost: CPU, memory and losses of the daemon and its store, beside other collectors.

`python -m bench --help` says how cases are chosen. One file per question:

- `cases`: what is measured, by name; `goals`: what it may cost
- `load`: the generator (`native/examples/load`), which counts an answer only when it says success
- `products`: the daemon under test; `peers`: the Go Collector and Rotel, on the same load in the same run
- `stores`: where rows end, and how many are there
- `measure`: rounds of a case; `table`: their medians
- `sidecar`, `scaling`, `overload`: what is not a row of that table
- `check`: instructions per row of the kernels, against `instructions.json`; `flame`: where the time goes
"""
