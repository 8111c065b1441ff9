"""What a rank writes down of its device, with a stand-in for torch.cuda."""

from types import SimpleNamespace

import pytest
import torch

from perfkit.profiler.inrank.facts import device_facts


def stand_in(monkeypatch: pytest.MonkeyPatch, **properties: object) -> None:
    """Let torch.cuda be in use, on device 2."""
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(cuda, "current_device", lambda: 2)
    monkeypatch.setattr(cuda, "get_device_name", lambda _: "NVIDIA H100")
    monkeypatch.setattr(cuda, "get_device_properties", lambda _: SimpleNamespace(**properties))


def test_a_device_is_told_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    """By it analysis finds the GPU among those that NVML samples, whatever devices are visible."""
    stand_in(monkeypatch, uuid="6ef3c8b1-0a9d")
    assert device_facts() == {
        "device_kind": "cuda",
        "device": 2,
        "device_name": "NVIDIA H100",
        "device_uuid": "6ef3c8b1-0a9d",
    }


def test_where_torch_knows_no_uuid_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, name="NVIDIA H100")
    assert "device_uuid" not in device_facts()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert device_facts() == {"device_kind": "cpu", "device": -1}
