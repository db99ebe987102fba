"""The light of points on a grid finer than the pixels, and its transpose: products with short bands.

A point with index g of one axis (upsampling u, the first point ``half`` pixels before the frame) puts on pixel Y the share
``f[(Y + k) u - 1 - g]`` of an image f drawn on the fine grid, k pixels or ``k u`` points wide. In two axes f is a sum of few products of a column
and a row (one for a Gaussian), so that the light of all points is two products with banded matrices. A band repeats itself from block to block of
pixels: one small dense matrix an axis serves all blocks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..optics import PSF

BLOCK_PX = 16  # pixels across a block: products of this size are fast, and half of their numbers lie in the band
LEAST_SHARE = 1e-3  # of the largest product of a column and a row; less is left out


def fine_images(psf: PSF, z_nm: Tensor, size_px: int, upsampling: int) -> Tensor:
    """Draw a PSF for each place of an emitter on the fine grid.

    Args:
        psf: one that does not vary in the field.
        z_nm: (1,) depth, in the number type of the PSF.
        size_px: odd width of the part of the patch that counts.
        upsampling: points per pixel and axis.

    Returns:
        (planes, size u, size u) shares of the photons, integrated over pixels; ordered as the formula of the module says.
    """
    u = upsampling
    steps = (torch.arange(u) + 0.5) / u - 0.5
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    images = psf(torch.stack((dx.flatten(), dy.flatten()), 1).to(z_nm), z_nm.expand(u * u))
    margin = (images.shape[-1] - size_px) // 2
    images = images[..., margin : margin + size_px, margin : margin + size_px].unflatten(0, (u, u)).flip(0, 1)
    return images.permute(2, 3, 0, 4, 1).reshape(images.shape[2], size_px * u, size_px * u)


class Axis:
    """The blocks of one axis.

    Args:
        n_px: pixels of the frame.
        size_px: odd width of the image of a point.
        upsampling: points per pixel.

    Attributes:
        half_px: the grid begins this far before the frame, and ends as far behind it or farther.
        blocks, block_px: number and width of the blocks of pixels, which may reach beyond the frame.
        grid_blocks, grid_block_px: the same of the blocks of the grid.
        points: points of the grid.
    """

    def __init__(self, n_px: int, size_px: int, upsampling: int) -> None:
        self.upsampling, self.half_px = upsampling, size_px // 2
        self.blocks = max(1, round(n_px / BLOCK_PX))
        self.block_px = math.ceil(n_px / self.blocks)
        needed = self.blocks * self.block_px + 2 * self.half_px
        self.grid_blocks = max(1, round(needed / BLOCK_PX))
        self.grid_block_px = math.ceil(needed / self.grid_blocks)
        self.points = self.grid_blocks * self.grid_block_px * upsampling

    def down(self, image: Tensor) -> Tensor:
        """Give the matrix from the points around a block to its pixels; ``image`` (k u,)."""
        u = self.upsampling
        pixel, point = torch.arange(self.block_px), torch.arange((self.block_px + 2 * self.half_px) * u)
        return _taken(image, (pixel[:, None] + 2 * self.half_px + 1) * u - 1 - point)

    def up(self, image: Tensor) -> Tensor:
        """Give the matrix from the pixels around a block of the grid to its points."""
        u = self.upsampling
        point, pixel = torch.arange(self.grid_block_px * u), torch.arange(self.grid_block_px + 2 * self.half_px)
        return _taken(image, (pixel + 1) * u - 1 - point[:, None])


def _taken(image: Tensor, index: Tensor) -> Tensor:
    index = index.to(image.device)
    there = (index >= 0) & (index < len(image))
    return torch.where(there, image[index.clamp(0, len(image) - 1)], 0.0).contiguous()


class FineGrid:
    """Points around and on a frame.

    Args:
        images: (planes, k u, k u) as `fine_images` gives them, or their squares.
        shape_px: (rows, columns) of the frame.
        upsampling: u, points per pixel and axis.
    """

    def __init__(self, images: Tensor, shape_px: tuple[int, int], upsampling: int) -> None:
        size = images.shape[-1] // upsampling
        self.upsampling, self.shape_px = upsampling, shape_px
        self.rows, self.columns = (Axis(n, size, upsampling) for n in shape_px)
        self.half_px = size // 2
        self.planes = [
            [(self.rows.down(f), self.columns.down(g), self.rows.up(f), self.columns.up(g)) for f, g in _products(image)]
            for image in images
        ]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the grid."""
        return self.rows.points, self.columns.points

    def light(self, points: Tensor) -> Tensor:
        """Give the light (n, planes, h, w) of points (n, rows, columns)."""
        rows, columns, u = self.rows, self.columns, self.upsampling
        planes = []
        for products in self.planes:
            parts = [
                _along_rows(
                    _along_columns(points, down, rows.blocks, rows.block_px * u), across, columns.blocks, columns.block_px * u
                )
                for down, across, _, _ in products
            ]
            planes.append(_sum(parts)[:, : self.shape_px[0], : self.shape_px[1]])
        return planes[0][:, None] if len(planes) == 1 else torch.stack(planes, 1)

    def gather(self, pixels: Tensor) -> Tensor:
        """Give the transpose of `light`: (n, planes, h, w) to (n, rows, columns)."""
        rows, columns = self.rows, self.columns
        h, w = self.shape_px
        edge = 2 * self.half_px
        around = pixels.new_zeros(
            *pixels.shape[:2], rows.points // self.upsampling + edge, columns.points // self.upsampling + edge
        )
        around[:, :, edge : edge + h, edge : edge + w] = pixels
        parts = []
        for plane, products in enumerate(self.planes):
            for _, _, up, across in products:
                wide = _along_rows(around[:, plane].contiguous(), across, columns.grid_blocks, columns.grid_block_px)
                parts.append(_along_columns(wide, up, rows.grid_blocks, rows.grid_block_px))
        return _sum(parts)


def _products(image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Split an image (k, k) into products of a column (k,) and a row (k,)."""
    left, size, right = torch.linalg.svd(image.double())
    n = int((size > LEAST_SHARE * size[0]).sum())
    root = size[:n].sqrt()
    return [((left[:, i] * root[i]).to(image), (right[i] * root[i]).to(image)) for i in range(n)]


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _along_columns(images: Tensor, matrix: Tensor, blocks: int, step: int) -> Tensor:
    """Multiply the columns of images (n, l, w), block by block, by a matrix (m, k): (n, blocks m, w)."""
    n, _, width = images.shape
    m, k = matrix.shape
    if n == 1:
        windows = images.contiguous().as_strided((blocks, k, width), (step * width, width, 1))
        return torch.bmm(matrix.expand(blocks, m, k), windows).view(1, blocks * m, width)
    return torch.cat([torch.matmul(matrix, images[:, i * step : i * step + k]) for i in range(blocks)], 1)


def _along_rows(images: Tensor, matrix: Tensor, blocks: int, step: int) -> Tensor:
    """Multiply the rows of images (n, h, l), block by block, by a matrix (m, k): (n, h, blocks m)."""
    n, h, length = images.shape
    m, k = matrix.shape
    windows = images.as_strided((blocks, n * h, k), (step, length, 1), images.storage_offset())
    return torch.bmm(windows, matrix.t().expand(blocks, k, m)).transpose(0, 1).reshape(n, h, blocks * m)
