"""How cuts are called. By itself, so that a hot folder knows without loading what reads them."""

SUFFIXES = {
    ".otio": "OpenTimelineIO",
    ".json": "OpenTimelineIO by another name",
    ".otioz": "an OpenTimelineIO bundle",
    ".otiod": "an OpenTimelineIO bundle (a folder)",
    ".edl": "a CMX 3600 list",
    ".xml": "FCP 7 XML (Premiere, Resolve, Hiero)",
    ".aaf": "an AAF (Media Composer)",
    ".fcpxml": "FCPXML (Final Cut Pro)",
    ".fcpxmld": "an FCPXML bundle (a folder)",
}
