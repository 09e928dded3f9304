"""One trial: build, count, train, evaluate, time, record; and what trials share."""
