"""What every part stands on: the machine, files, strict JSON, child processes, threads, progress."""
