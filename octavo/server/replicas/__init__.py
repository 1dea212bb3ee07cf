"""One front, several replicas: `octavo serve --ray`.

The front (`front`, `relay`) is the process that clients reach: keys, limits, drain and the page are its own. It asks
what a request is about (`keys`, `forms`), which replica knows that already (`directory`), and hands the request over
whole; Ray Serve (`cluster`, `router`, `replica`) runs the replicas, sends it there and scales them. A replica is the
whole application of `octavo.server.app` over a service of its own (`served`). What comes back passes unchanged
(`outgoing`), so that nothing of a protocol is known twice.
"""
