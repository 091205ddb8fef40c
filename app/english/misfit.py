"""Why a sentence does not fit, before it is told to anybody."""


class Misfit(Exception):
    """A sentence that does not fit, as far as the dataset that it was tried on goes.

    `word` begins at `place`. `unknown`: it names nothing there. `expected`: what could stand there instead.
    """

    def __init__(self, message: str, word: str, place: int, *, unknown: bool = False, expected: tuple[str, ...] = ()):
        super().__init__(message)
        self.message = message
        self.word = word
        self.place = place
        self.unknown = unknown
        self.expected = expected
