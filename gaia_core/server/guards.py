"""What is checked of every request before anything else."""

from fastapi import Request


async def same_site(request: Request) -> None:
    """
    Refuse what a page of another site makes a browser send.

    Raises:
        RefusedError: If it came from a page that is neither this server's own nor
            allowed by ``server.allowed_origins``.
    """
