import sys, time; sys.path.insert(0,"/work/main/tests/salt"); sys.path.insert(0,"/work/main/tests")
from salt_minion import *
def test_t(folder):
    from helpers.example import ExampleHost
    with ExampleHost(folder) as host:
        t=time.time(); import cProfile,pstats; p=cProfile.Profile(); p.enable(); m = Minion(host); p.disable(); print("loaders", time.time()-t)
        pstats.Stats(p).sort_stats("cumtime").print_stats(45)
        for i in range(3):
            t=time.time(); r=m.state("managed", test=True, **sleeper("s")); print("state", time.time()-t, r.full_return)
        m.loaders.reset_state(); t=time.time(); r=m.state("managed", test=True, **sleeper("s")); print("state after reset", time.time()-t)
