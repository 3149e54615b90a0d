"""Where shop data comes from when there is none of one's own: a simulator, MovieLens, Amazon Reviews 2023."""
