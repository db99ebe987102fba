"""A localizer of one's own, outside of the package: each pixel says whether an emitter lies in it, where, and how bright it is."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from denseloc.data import Localizations
from denseloc.localize import LOCALIZERS, LocalizerSettings
from denseloc.localize.frame_by_frame import Found, FrameByFrame, frames_of
from denseloc.localize.layers import compressed, standardised


@LOCALIZERS.add
class PlainSettings(LocalizerSettings):
    """``[localizer] kind = "plain"``: what the document says."""

    kind: Literal["plain"] = "plain"
    features: int = 24

    def build(self, scales):
        return Plain(self, scales)


class Plain(FrameByFrame):
    halo_px, align_px = 6, 1  # five 3 x 3 convolutions and the search for maxima reach this far

    def __init__(self, settings, scales):
        super().__init__(scales)
        sizes = [scales.planes, *[settings.features] * 4]
        layers = [part for a, b in zip(sizes, sizes[1:]) for part in (nn.Conv2d(a, b, 3, padding=1), nn.ELU())]
        self.net = nn.Sequential(*layers, nn.Conv2d(settings.features, 4, 3, padding=1))
        nn.init.constant_(self.net[-1].bias[:1].data, -6.0)  # emitters are rare

    def hidden_weights(self):
        return [layer.weight for layer in self.net[2:-1] if isinstance(layer, nn.Conv2d)]

    def output(self, photons: Tensor, conditions: Tensor) -> Tensor:
        return self.net(compressed(standardised(photons, conditions)))

    def batch_loss(self, batch):
        maps, e, (y_nm, x_nm) = self.output(*frames_of(batch)), batch.emitters, self.scales.pixel_size_nm
        at = (e.frame, (e.y_nm / y_nm).long(), (e.x_nm / x_nm).long())
        there = torch.zeros_like(maps[:, 0]).index_put(at, torch.ones_like(e.x_nm))
        wanted = torch.stack((e.x_nm / x_nm % 1, e.y_nm / y_nm % 1, torch.log(e.photons / self.scales.photon_unit)), 1)
        error = functional.l1_loss(maps[:, 1:].permute(0, 2, 3, 1)[at], wanted, reduction="sum")
        return (functional.binary_cross_entropy_with_logits(maps[:, 0], there, reduction="sum") + error) / max(1, len(wanted))

    def read(self, output, photons, conditions, pixel_size_nm):
        p = output[:, 0].sigmoid()
        least = self.own_probability(self.threshold) if self.threshold else 0.4  # what a person asks for is meant as it is reported
        frame, row, column = torch.nonzero((p == functional.max_pool2d(p, 3, 1, 1)) & (p > least), as_tuple=True)
        dx, dy, brightness = output[frame, 1:, row, column].T
        y_nm, x_nm = pixel_size_nm
        rows = {"frame": frame, "x_nm": (column + dx) * x_nm, "y_nm": (row + dy) * y_nm, "probability": p[frame, row, column]}
        rows |= {"photons": brightness.exp() * self.scales.photon_unit}
        rows |= {f"sigma_{axis}_nm": torch.full_like(dx, 0.2 * x_nm) for axis in "xy"}  # made true after training
        return Found(Localizations({k: v.detach().cpu().numpy() for k, v in rows.items()}), row.cpu().numpy(), column.cpu().numpy())
