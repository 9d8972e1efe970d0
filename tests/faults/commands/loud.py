"""loud.py MEGABYTES: fills its log, with lines and without, and then says that it is done."""

import sys

sys.stdin.readline()
for number in range(int(sys.argv[1])):
    sys.stderr.buffer.write(b"x" * (1 << 20) if number % 2 else (b"." * 63 + b"\n") * (1 << 14))
sys.stderr.write("the end\n")
sys.stderr.flush()
sys.stdout.write('{"said": "done"}\n')
