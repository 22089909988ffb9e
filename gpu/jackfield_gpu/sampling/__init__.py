"""What sampling needs of whole vocabularies, in one launch a step."""
