"""What a run is started with."""

from pathlib import Path

from tests.unit.trainer.claims.values import gpu, lane, run

from fleetcast.daemons.trainer.starting import GPUS, Place, device_of, gpus_in, spec_of
from fleetcast.daemons.trainer.supervision.spec import RunSpec
from fleetcast.events.training import TrainingRunState

DAEMON = {"PATH": "/bin", "NATS_URL": "nats://secret@h", "FLEETCAST_CONFIG": "/etc/f.toml", "HOME": "/h"}
PLACE = Place("n1", Path("/data"), DAEMON)


def started(state: TrainingRunState, gpus: tuple[int, ...] = (), **changes: object) -> RunSpec:
    definition = lane(**{"command": ("train", "--run={run}", "{device}"), **changes})
    return spec_of(
        PLACE,
        state,
        definition,
        checkpoints=Path("/data/runs/hex8-1/checkpoints"),
        resume=Path("/ck"),
        cadence_seconds=590.0,
        log_bytes=1000,
        gpus=gpus,
    )


def test_a_job_is_told_everything_and_nothing_of_the_daemon_s_own() -> None:
    spec = started(run(claim=3, device="cuda:0"), (2,), env={"LR": "0.1", "FLEETCAST_CLAIM": "99"})
    ours = {name.removeprefix("FLEETCAST_"): value for name, value in spec.env.items() if name.startswith("FLEETCAST_")}
    assert ours == {
        "RUN_ID": "hex8-1",
        "CLAIM": "3",
        "LANE": "hex8",
        "MODEL": "hex8",
        "DATA": "/data/datasets/hex8/d1",
        "CHECKPOINT": "/ck",
        "CHECKPOINT_DIR": "/data/runs/hex8-1/checkpoints",
        "DEVICE": "cuda:0",
        "CADENCE_SECONDS": "590",
        "STOP_FILE": "/data/runs/hex8-1/stop",
        "DONE_FILE": "/data/runs/hex8-1/done",
        "NODE_ID": "n1",
        "STORE_DATA": "/data",
        "GPUS": "2",
        "CONFIG": "/etc/f.toml",
    }
    assert "NATS_URL" not in spec.env
    assert (spec.env["LR"], spec.env["HOME"]) == ("0.1", "/h")
    assert spec.command == ("train", "--run=hex8-1", "cuda:0")
    assert gpus_in(spec.env) == (2,)


def test_a_run_sees_the_gpus_that_it_was_given_and_on_the_cpu_none() -> None:
    assert started(run(device="cuda:0"), (1, 3)).env["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert started(run(device="rocm:0"), (1,)).env["ROCR_VISIBLE_DEVICES"] == "1"
    bare = started(run(device="cpu")).env
    assert (bare["CUDA_VISIBLE_DEVICES"], bare["ROCR_VISIBLE_DEVICES"]) == ("", "")
    assert GPUS not in bare


def test_a_device_is_called_by_its_vendor_and_a_simulated_gpu_computes_on_the_cpu() -> None:
    assert device_of(run(), (gpu(5),)) == "cuda:0"
    assert device_of(run(), (gpu(vendor="amd"),)) == "rocm:0"
    assert device_of(run(), (gpu(vendor="simulated"),)) == "cpu"
    assert device_of(run(cpu=True), (gpu(),)) == "cpu"
    assert device_of(run(), ()) == "cpu"
