"""The console command `perception VERB`: one file a verb; `commands.py` finds and runs them."""
from .commands import run_verb

__all__ = ['run_verb']
