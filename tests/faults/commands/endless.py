"""endless.py MEGABYTES: one line on stdout that does not end."""

import sys

sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    sys.stdout.buffer.write(b"y" * (1 << 20))
sys.stdout.flush()
