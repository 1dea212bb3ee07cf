"""One model over several processes of one host, each with a share of the weights.

`shares` says who holds what, `team` adds and gathers between processes, `layers` are the model's parts over it, `rank`
is what every process has, `orders` is what a worker is told, `worker` its process, `crew` the first rank's hold on the
others, `runner` and `state` what the engine works with there.
"""
