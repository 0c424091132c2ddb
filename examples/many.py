"""Twenty sandboxes at once on one event loop, each with a program that is talked to."""

import asyncio

import sampan


async def echo(number: int) -> bytes:
    async with sampan.aio.Sandbox("host:") as box, box.exec("cat") as process:
        await process.stdin.write(f"hello from {number}\n")
        return await process.stdout.readline()


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(echo(number)) for number in range(20)]
    print(len({task.result() for task in tasks}), "answers")


asyncio.run(main())
