"""Run a program that nobody has read: limited, without network, gone when it is over."""

import sampan

PROGRAM = """
import sys
words = sys.stdin.read().split()
print(len(words), "words, the longest is", max(words, key=len))
"""

with sampan.Sandbox("host:", memory="256M", pids=64, network=None, timeout=30) as box:
    box.write("/app/count.py", PROGRAM)
    result = box.run("python3", "/app/count.py", input="a few words to count", user="nobody")
    print(result.text, end="")

    try:
        box.run("python3", "-c", "while True: pass", timeout=1)
    except sampan.TimeoutExpired as err:
        print("ended after", err.timeout, "s")

    greedy = box.run("python3", "-c", "x = bytearray(1 << 30)", user="nobody")
    print("asking for a gigabyte:", "refused" if greedy.returncode else "granted")
