"""Web and mail servers of a few lines that say their name, and can be told to be ill.

    python tiny_servers.py NAME ADDRESS FOLDER PROTOCOL=PORT...      (http, imap, pop3, smtp)

They print ``ready`` once they listen. A service is ill while the file FOLDER/NAME-PROTOCOL exists, in the way the file
says: what to answer instead; an empty one says nothing at all.
"""

import asyncio
import sys
from functools import partial
from pathlib import Path

WELL = {
    "imap": "* OK {name} IMAP4rev1\r\n",
    "pop3": "+OK {name} POP3\r\n",
    "smtp": "220 {name} ESMTP\r\n",
    "http": "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Name: {name}\r\nConnection: close\r\n\r\n{name}",
}


async def serve(name: str, address: str, folder: Path, services: dict[str, int]) -> None:
    """Until killed."""

    async def talk(protocol: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        illness = folder / f"{name}-{protocol}"
        said = illness.read_text() if illness.exists() else WELL[protocol].format(name=name, length=len(name))
        try:
            if protocol == "http":
                await reader.readuntil(b"\r\n\r\n")
            if said:
                writer.write(said.encode())
            await reader.read(4096)  # the client's farewell, or the end
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    for protocol, port in services.items():
        await asyncio.start_server(partial(talk, protocol), address, port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    name_, address_, folder_, *ports = sys.argv[1:]
    asyncio.run(serve(name_, address_, Path(folder_), {p.partition("=")[0]: int(p.partition("=")[2]) for p in ports}))
