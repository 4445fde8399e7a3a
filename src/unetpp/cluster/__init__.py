"""Work that other processes and machines share: cases, blocks and folds as tasks, in this process or on Dask."""
