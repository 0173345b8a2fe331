"""One lane of a pipeline.

    requests ──► head (s0l0) ── input ring ──► lane s0l1 ── ring ──┐
       ▲           │  └────────── ring ──────────────────────────► lane s1l0
       │           └─ input ring ────────────────────────────────►  │
       └─────────────────────── return ring ◄───────────────────────┘

Every ring carries every request, in the head's order: as tensors, or as an error if something went
wrong on the way, so that whoever joins several rings takes one frame from each and never waits in
vain. A request that is blocked can only wait for an older one, and return rings are emptied by a
thread of their own; so no cycle of full rings can arise.

* `layout`: what the config layer says about this lane
* `frames`: values and what is said about them, to ring frames and back
* `stage`: the lane's components for one request, and its outgoing rings
* `worker`: the loop of a lane that is not the head
* `head`: requests in, requests out
* `process`: life of the process: start, states, poison, end
"""
