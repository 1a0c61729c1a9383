"""What a type checker must find in a user's program: each line below with `wants` is an error of that code."""

import streamae

detector = streamae.load(5)  # wants arg-type
detector.channels = ("a",)  # wants misc
threshold: float = detector.threshold  # wants assignment
scores = detector.score([1.0, 2.0], stream=3)  # wants arg-type
text: str = scores[0].score  # wants assignment
streamae.scoer  # wants attr-defined  # noqa: B018
streamae.train(7)  # wants arg-type
streamae.Series.of("a", ["b"], [0.0])  # wants call-arg
