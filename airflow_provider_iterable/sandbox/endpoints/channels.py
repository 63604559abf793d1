"""The endpoints of channels and message types: what each answers."""

from ..project import channels as stock
from ..project.project import Project
from ..shapes.answers import Answer, plain
from ..shapes.request import Request


def get_channels(project: Project, request: Request[None]) -> Answer:
    """List the message channels."""
    return plain({"channels": stock.channels(project.options.project_id)})


def get_message_types(project: Project, request: Request[None]) -> Answer:
    """List the message types."""
    return plain({"messageTypes": stock.message_types(project.options.project_id)})
