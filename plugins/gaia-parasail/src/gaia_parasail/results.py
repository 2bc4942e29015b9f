"""From lines of a batch's files to the answers that Gaia takes."""

from gaia_core import CallContext, ImageResult, ProviderError
from gaia_parasail import replies
from gaia_parasail.batch_files import Line
from gaia_parasail.errors import refused_line
from gaia_parasail.replies import Wanted

_OK = 200


async def answer_of(
    line: Line, wanted: Wanted, context: CallContext
) -> ImageResult | ProviderError:
    """Take the answer out of a line: pictures, or the error that a call would raise."""
    response = line.response
    if response is None or response.get("status_code") != _OK:
        return refused_line(line.error, response)
    body = response.get("body")
    try:
        reply = body if isinstance(body, dict) else {}
        return await replies.collected(reply, wanted, context)
    except ProviderError as error:
        return error
