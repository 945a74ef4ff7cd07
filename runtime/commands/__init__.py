"""The commands of the runtime floor, one a file. None of them needs PyTorch."""

from runtime.commands.bench import bench
from runtime.commands.doctor import doctor
from runtime.commands.embed import embed
from runtime.commands.inspect import inspect, print_signature
from runtime.commands.predict import predict
from runtime.commands.verify import verify
from runtime.console import app as make_app

__all__ = ["app", "bench", "doctor", "embed", "inspect", "predict", "print_signature", "verify"]

app = make_app("Run exported classifiers. This floor never needs PyTorch.")
for command in (predict, verify, bench, embed, inspect, doctor):
    app.command()(command)
