"""mpixfel serve: a run on a web page of this machine, also while it goes on."""
import os
import sys

HELP = "a run on a local web page"


def add_arguments(parser):
    """Arguments of `mpixfel serve`."""
    parser.add_argument("run", help="run directory, of a run finished or not")
    parser.add_argument("--port", type=int, default=0, help="default: one that is free")


def run(args):
    """Serve until Ctrl-C; returns the exit code."""
    from mpixfel.report.server import make_server

    server = make_server(args.run, args.port)
    port = server.server_address[1]
    print(f"{server.url}\n\nOpen this address in a browser of this machine. From elsewhere, first\n"
          f"    ssh -L {port}:127.0.0.1:{port} {os.uname().nodename}\nCtrl-C ends it.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        server.server_close()
        server.RequestHandlerClass.run.close()
    return 0
