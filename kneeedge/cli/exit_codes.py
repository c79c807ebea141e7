"""The exit codes of every command, by which a nightly job knows what to do next."""

DONE = 0
"all that was asked for is there"
FAILED = 1
"nothing was done, or it ended before it was done; Python's own code for what nobody foresaw"
WRONG_USAGE = 2
"options that are unknown, out of range or contradict each other; nothing was done"
DONE_WITH_FAULTS = 3
"done and written, but a part failed: an image without an answer, a gate, a check"
INTERRUPTED = 130
"Ctrl-C, SIGTERM or SIGHUP; shells have it so for Ctrl-C"
PIPE_CLOSED = 141
"who read the report went away before its end, as `| head -1` does; shells have it so"

HELP = (
    "Exit codes: 0 done; 1 failed, nothing is there or not all of it; 2 wrong usage; "
    "3 done, but a part failed (an image without an answer, a gate, a check); "
    "130 stopped by Ctrl-C, SIGTERM or SIGHUP; 141 the reader of the report went away."
)
