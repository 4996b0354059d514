"""Says its name, then gives back whatever it is sent.

python echo_server.py NAME ADDRESS PORT...
"""

import asyncio
import sys


async def serve(name: str, address: str, ports: list[int]) -> None:
    """Until killed."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{name:16}".encode())
        try:
            while some := await reader.read(65536):
                writer.write(some)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    for port in ports:
        await asyncio.start_server(talk, address, port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    name_, address_, *ports_ = sys.argv[1:]
    asyncio.run(serve(name_, address_, [int(port) for port in ports_]))
