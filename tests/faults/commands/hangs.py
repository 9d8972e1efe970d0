"""Takes its task and computes for ever, deaf to all but SIGKILL."""

import signal
import sys

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.readline()
while True:
    pass
