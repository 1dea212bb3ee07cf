"""Many sequences at once over one model: jobs in, events out.

`job` and `events` are the values that pass, `scheduler` decides in integers what runs next, `lanes` are the threads it
runs on, `service` is the loop that joins them; `prefixes` finds states that begin a prompt, `shelf` keeps them on disk,
`library` holds documents by name, `grammar` restricts what an answer may say. Does not cover: protocols and HTTP
(`octavo.server`), conversations on one state (`octavo.engine.conversation`).
"""
