"""python -m serving.cli"""

from serving.cli.main import app

app()
