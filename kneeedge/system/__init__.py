"""What every part stands on: machine, files, strict JSON, child processes, threads, progress."""
