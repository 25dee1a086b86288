"""Hardware is told by what the kernel says, in a tree that the test lays."""

from pathlib import Path

import pytest

from fleetcast.daemons.distributor.hardware import detect_vendor, is_gpu_node, labels_of


def card(root: Path, vendor: str, driver: str) -> None:
    number = len(list((root / "sys/class/drm").glob("card?"))) if (root / "sys/class/drm").exists() else 0
    device = root / f"sys/class/drm/card{number}/device"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    home = root / "sys/bus/pci/drivers" / driver
    home.mkdir(parents=True, exist_ok=True)
    (device / "driver").symlink_to(home)
    (root / f"sys/class/drm/card{number}-HDMI-A-1").mkdir()


def kfd(root: Path) -> None:
    (root / "dev").mkdir()
    (root / "dev/kfd").touch()


def test_a_machine_without_graphics_has_no_gpu(tmp_path: Path) -> None:
    assert detect_vendor(tmp_path) is None


@pytest.mark.parametrize(("vendor", "driver"), [("0x1a03", "ast"), ("0x1af4", "virtio-pci"), ("0x8086", "i915")])
def test_a_display_adapter_is_no_gpu(tmp_path: Path, vendor: str, driver: str) -> None:
    card(tmp_path, vendor, driver)
    assert detect_vendor(tmp_path) is None


def test_nvidia_counts_with_its_own_driver_only(tmp_path: Path) -> None:
    card(tmp_path, "0x10de", "nouveau")
    assert detect_vendor(tmp_path) is None
    card(tmp_path, "0x10DE", "nvidia")
    assert detect_vendor(tmp_path) == "nvidia"


def test_nvidia_is_seen_in_a_container_without_sysfs(tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    assert detect_vendor(tmp_path) == "nvidia"


def test_amd_counts_with_its_compute_interface(tmp_path: Path) -> None:
    card(tmp_path, "0x1002", "amdgpu")
    assert detect_vendor(tmp_path) is None
    kfd(tmp_path)
    assert detect_vendor(tmp_path) == "amd"


def test_amd_is_seen_in_a_container_without_sysfs(tmp_path: Path) -> None:
    kfd(tmp_path)
    assert detect_vendor(tmp_path) == "amd"


def test_what_is_configured_wins_over_what_is_detected() -> None:
    assert labels_of({}, "nvidia") == {"gpu": "nvidia", "gpu_vendor": "nvidia"}
    assert labels_of({"gpu": "none"}, "nvidia") == {"gpu": "none"}
    assert labels_of({"gpu": "yes"}, "amd") == {"gpu": "yes", "gpu_vendor": "amd"}
    assert labels_of({"gpu": "Intel", "zone": "b"}, None) == {"gpu": "Intel", "gpu_vendor": "intel", "zone": "b"}
    assert labels_of({}, None) == {}


def test_a_role_makes_a_gpu_node_unless_the_label_denies_it() -> None:
    assert is_gpu_node({"role": "gpu"})
    assert not is_gpu_node({"role": "gpu", "gpu": "none"})
    assert not is_gpu_node({"role": "serving"})
