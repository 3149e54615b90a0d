"""What a bundle answers, in graph: a shop as it is served, and the questions that it is asked.

``shop`` holds what all answers are made from. Each question is a file of its own, and ``questions`` lists them.
"""
