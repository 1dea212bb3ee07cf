"""One module for each group of routes; each has `router(context)`, and translates requests to jobs and events back.

Does not cover: running jobs (`octavo.server.bridge`), keys, limits and logs (middlewares of `octavo.server.app`).
"""
