"""The abstract CKKS backend: what a library must offer, and the sessions through which helora uses it."""
