"""Who does it, and when: what was dropped, what is to be done, who does it.

::

    daemon       the one process that opens the ledger, and its loop; places and premises are what its rooms share
      intake       hotfolder (arrivals, pairing, watcher), submissions, retries -> planned in a child -> the ledger
      rendering    leases -> children that render -> a child that looks at it -> published
      deliveries   rendered shots and finished jobs -> delivered and returned in a child
      receipts     STATUS/ for whoever dropped it; outbox for hooks; control for whoever asks; garbage
    ledger       every job, shot, segment and attempt: sql runs ledger.sql, book draws consequences, orders, standing
    dispatch     child processes; worker is what they run, and the one place where the farm meets the corridor
    host         this machine

The daemon never opens a picture, a timeline or a tensor: whatever could end a process ends a child.
"""
