"""Takes its task and ends well, without a word."""

import sys

sys.stdin.readline()
