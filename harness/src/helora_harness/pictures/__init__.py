"""The pictures of the documentation: ``helora bench pictures render`` writes them to docs/assets.

Shapes, counts and positions are the compiler's and the packings'; a test holds the committed files to what this makes.
"""
