"""Functions on the author's own machine: the same lanes, rings and messages as on a node, without an invoker.

* `source`: the action's code as `/init` carries it
* `assignment`: a plan as the config layer of an instance
* `lanes`: starts the processes and plays their proxies
* `traced`: one such process that also notes when each component ran
* `timeline`: what they noted, as a picture
* `imports`: what the code imports, and whether the images have it
* `commands`: `python -m FluidFaaS run` and `check`
"""
