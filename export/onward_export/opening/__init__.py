"""Opening: artifacts are opened and run in a fresh process, as they will be where they are used.

process is the side of the exporter, and replays runs artifacts there while the exporter goes on; worker is the program
of that process, which imports `onward` and the libraries that run artifacts, never the exporter or the user's code. A
crash of such a library ends the worker, not the export.

The room does not know what the outputs should be; the gate and the passes do.
"""

from onward_export.opening.process import ArtifactProcess, OpenedArtifact
from onward_export.opening.replays import ArtifactRun, Replays, files_beside, open_artifact

__all__ = ["ArtifactProcess", "ArtifactRun", "OpenedArtifact", "Replays", "files_beside", "open_artifact"]
