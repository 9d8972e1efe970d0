"""Who does it, and when: what was dropped, what is to be done, who does it.

`daemon` is the one process that opens the `ledger`; it watches the `hotfolder` and gives tasks to child processes
through `dispatch`. What a child does is in `worker`, where the farm meets the corridor.
"""
