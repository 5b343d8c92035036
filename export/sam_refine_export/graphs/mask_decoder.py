"""SAM's prompt encoder and mask decoder, rearranged for many prompts of one image.

It computes what segment-anything's `PromptEncoder` and `MaskDecoder` compute (Kirillov et al.,
2023, arXiv 2304.02643), from their parameters, but does the arithmetic in another order:

- image tokens stay (N, S, D) throughout, and the mask is put together once at the end;
- image embedding and mask prompt are summed per mask prompt, then gathered per prompt;
- in attention between S image tokens and T prompt tokens, projections of the S tokens are folded
  into the T tokens (see `FoldedAttention`);
- transposed convolutions of stride = kernel are linear layers per pixel;
- masks to return are chosen before they are computed, and share all of their upscaling but the last
  product; where predicted IoUs are too low, and where pixels lie beyond the image, there is none.

Letters beyond the package's: S = 64 * 64 image tokens, D = 256 their width, T = 5 + P prompt tokens
(predicted IoU, four masks, P points), A = 8 attention heads, d = D / A / 2 the width of a head,
J = 1, 3 or 4 masks that are looked at,
M = 1 or 4 of them that are returned, S' = h_l / 4 * w_l / 4 image tokens that masks are made of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_refine.contract.tensors import MaskChoice, MaskPromptMode
from sam_refine_export.networks.sam_modules import SamModule


class MaskDecoder(nn.Module):
    """Every prompt of a batch to its mask and predicted IoU (`contract.SAM_MASK_DECODER`)."""

    output_tokens: Tensor

    def __init__(self, prompt_encoder: SamModule, mask_decoder: SamModule) -> None:
        """Take the parameters of segment-anything's two modules, which are not changed."""
        super().__init__()
        self.point_encoder = PointEncoder(prompt_encoder)
        self.mask_prompt_encoder = MaskPromptEncoder(prompt_encoder)
        self.transformer = Transformer(mask_decoder.transformer, prompt_encoder.get_dense_pe())
        self.upscaling = Upscaling(
            mask_decoder.output_upscaling, prompt_encoder.image_embedding_size
        )
        self.chooser = MaskChooser(mask_decoder)
        iou_and_mask_tokens = torch.cat(
            [mask_decoder.iou_token.weight, mask_decoder.mask_tokens.weight]
        )
        self.register_buffer("output_tokens", iou_and_mask_tokens.detach().clone())

    def forward(
        self,
        image_embedding: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_prompts: Tensor,
        mask_index: Tensor,
        mask_prompt_mode: Tensor,
        mask_choice: Tensor,
        iou_threshold: Tensor,
        low_res_size: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Inputs and outputs are the contract's, by name, dtype and shape."""
        image = image_embedding.flatten(2).transpose(1, 2)  # (1, S, D)
        dense, bias = self.mask_prompt_encoder(mask_prompts, mask_prompt_mode)  # (K, S, D), (1, D)
        image = dense + (image + bias)
        points = self.point_encoder(point_coords, point_labels)  # (N, P, D)
        output_tokens = self.output_tokens.expand(points.shape[0], -1, -1)  # (N, 5, D)
        tokens = torch.cat([output_tokens, points], dim=1)  # (N, T, D)

        looked_at = self.chooser.looked_at(mask_choice)  # (J)
        # (N, 1 + J, D), (N, S, D)
        tokens, image = self.transformer(tokens, image, mask_index, looked_at)

        # (N, M, 32), (N, M)
        filters, iou_predictions = self.chooser(tokens, looked_at, mask_choice)
        kept = torch.nonzero(iou_predictions.amax(dim=1) > iou_threshold)[:, 0]  # (V)
        low_res_logits = self.upscaling(image, filters, kept, low_res_size)  # (V, M, h_l, w_l)
        return low_res_logits, iou_predictions


class PointEncoder(nn.Module):
    """Prompt points to tokens, by position and label."""

    LABELS = (-1, 0, 1, 2, 3)
    """Padding, negative, positive, box top left, box bottom right."""

    size_xy: Tensor
    frequencies: Tensor
    labels: Tensor
    label_embeddings: Tensor

    def __init__(self, prompt_encoder: SamModule) -> None:
        super().__init__()
        height, width = prompt_encoder.input_image_size
        frequencies = prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        embeddings = [prompt_encoder.not_a_point_embed, *prompt_encoder.point_embeddings]
        self.register_buffer("size_xy", torch.tensor([width, height], dtype=torch.float32))
        self.register_buffer("frequencies", frequencies.detach().clone())
        self.register_buffer("labels", torch.tensor(self.LABELS, dtype=torch.float32))
        self.register_buffer("label_embeddings", torch.cat([e.weight.detach() for e in embeddings]))

    def forward(self, coords_xy: Tensor, labels: Tensor) -> Tensor:
        """(N, P, 2) pixels and (N, P) labels to (N, P, D); padding has a label but no position."""
        unit_xy = (coords_xy + 0.5) / self.size_xy
        angles = 2 * math.pi * ((2 * unit_xy - 1) @ self.frequencies)  # (N, P, D / 2)
        place = torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)
        has_label = labels[..., None] == self.labels  # (N, P, 5)
        is_point = ~has_label[..., :1]
        return place * is_point.float() + has_label.float() @ self.label_embeddings


class MaskPromptEncoder(nn.Module):
    """Mask prompts to the two tensors that are added to the image tokens."""

    weight: Tensor
    bias: Tensor
    no_mask: Tensor

    def __init__(self, prompt_encoder: SamModule) -> None:
        super().__init__()
        self.conv1, self.norm1, _, self.conv2, self.norm2, _, conv3 = (
            prompt_encoder.mask_downscaling
        )
        self.register_buffer("weight", conv3.weight.detach()[:, :, 0, 0].T.clone())
        self.register_buffer("bias", conv3.bias.detach().clone())
        self.register_buffer("no_mask", prompt_encoder.no_mask_embed.weight.detach().clone())

    def forward(self, masks: Tensor, mode: Tensor) -> tuple[Tensor, Tensor]:
        """(K, 1, 256, 256) and the mode (1), a `MaskPromptMode`, to (K, S, D) and (1, D).

        Their sum is SAM's dense prompt embedding; the second part is the same for all tokens.
        """
        over_rows = mode == MaskPromptMode.TRIDENT
        x = F.gelu(self._normalise(self.conv1(masks), self.norm1, over_rows))
        x = F.gelu(self._normalise(self.conv2(x), self.norm2, over_rows))  # (K, 16, 64, 64)
        x = x.flatten(2).transpose(1, 2)  # (K, S, 16)
        is_none = mode == MaskPromptMode.NONE
        # Chosen here, where the tensor is still narrow, so that (K, S, D) is written only once.
        x = torch.where(is_none, 0.0, x) @ self.weight
        return x, torch.where(is_none, self.no_mask, self.bias)

    @staticmethod
    def _normalise(x: Tensor, norm: SamModule, over_rows: Tensor) -> Tensor:
        """segment-anything's LayerNorm2d on (K, C, H, W), or what it does without the batch axis.

        It normalises over axis 1: that is the channels of a batch, but the rows of a single
        (C, H, W).
        """

        def mean(x: Tensor) -> Tensor:
            return torch.where(over_rows, x.mean(2, keepdim=True), x.mean(1, keepdim=True))

        x = x - mean(x)
        x = x / torch.sqrt(mean(x * x) + norm.eps)
        weight: Tensor = norm.weight[:, None, None]
        bias: Tensor = norm.bias[:, None, None]
        return x * weight + bias


class Transformer(nn.Module):
    """SAM's two-way transformer: prompt tokens and image tokens attend to each other in turn."""

    image_pe: Tensor

    def __init__(self, transformer: SamModule, image_pe: Tensor) -> None:
        """`image_pe` (1, D, 64, 64) is the positional encoding of the image tokens."""
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(layer) for layer in transformer.layers)
        self.final_attention = TokenToImageAttention(transformer.final_attn_token_to_image)
        self.final_norm = transformer.norm_final_attn
        self.register_buffer("image_pe", image_pe.detach().flatten(2).transpose(1, 2).contiguous())

    def forward(
        self, tokens: Tensor, image: Tensor, mask_index: Tensor, looked_at: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, T, D), (K, S, D) and (N) indices into K to (N, 1 + J, D), (N, S, D).

        Only tokens that are needed later are returned: the predicted IoU's and those of the J
        masks' that are `looked_at`.
        """
        token_pe = tokens
        image = image.index_select(0, mask_index)
        for layer in self.layers:
            tokens, image = layer(tokens, token_pe, image, self.image_pe)
        read = torch.cat([looked_at.new_zeros(1), 1 + looked_at])
        tokens, token_pe = tokens.index_select(1, read), token_pe.index_select(1, read)
        attended = self.final_attention(tokens + token_pe, image + self.image_pe, image)
        return self.final_norm(tokens + attended), image


class TransformerLayer(nn.Module):
    """Tokens attend to tokens, tokens to image, a feed-forward, image to tokens."""

    def __init__(self, layer: SamModule) -> None:
        super().__init__()
        self.is_first = layer.skip_first_layer_pe
        self.self_attention, self.norm1 = layer.self_attn, layer.norm1
        self.token_to_image = TokenToImageAttention(layer.cross_attn_token_to_image)
        self.norm2 = layer.norm2
        self.mlp, self.norm3 = layer.mlp, layer.norm3
        self.image_to_token = ImageToTokenAttention(layer.cross_attn_image_to_token)
        self.norm4 = layer.norm4

    def forward(
        self, tokens: Tensor, token_pe: Tensor, image: Tensor, image_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, T, D), the same, (N, S, D), (1, S, D) to new tokens and image tokens."""
        if self.is_first:  # here tokens and their positional encoding are one
            tokens = self.self_attention(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            tokens = tokens + self.self_attention(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_pe
        tokens = self.norm2(tokens + self.token_to_image(tokens + token_pe, placed_image, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.image_to_token(placed_image, tokens + token_pe, tokens)
        # Rank 4 keeps ONNX Runtime from fusing sum and norm: its SkipLayerNormalization takes
        # several times as long as the two by themselves.
        image = self.norm4(image.unsqueeze(0)).squeeze(0)
        return tokens, image


class FoldedAttention(nn.Module):
    """Attention between few prompt tokens and many image tokens that projects only the few.

    With an image token x (D) and a prompt token t (D), head a weighs them by (W_q q + b_q).(W_k k +
    b_k) / sqrt(d). Whichever of the two is x, its matrix moves to the other side: A * T vectors of
    width D are computed per prompt, and the S image tokens are multiplied only with those. The same
    goes for values and output. A bias that adds the same to all logits of a softmax cancels; the
    bias of the values passes through, as weights sum to one.
    """

    def __init__(self, attention: SamModule) -> None:
        super().__init__()
        self.heads: int = attention.num_heads
        self.scale = (attention.internal_dim // attention.num_heads) ** -0.5

    def _split_heads(self, x: Tensor) -> Tensor:
        """(N, T, A * d) to (N, A, T, d)."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)

    def _by_head(self, weight: Tensor) -> Tensor:
        """A projection's weight (A * d, D) to (A, d, D)."""
        return torch.unflatten(weight.detach(), 0, (self.heads, -1)).clone()


class TokenToImageAttention(FoldedAttention):
    """Queries are prompt tokens, keys and values are image tokens."""

    key: Tensor
    value: Tensor

    def __init__(self, attention: SamModule) -> None:
        super().__init__(attention)
        query, key, value, out = _projections(attention)
        self.query = _linear(query.weight * self.scale, query.bias * self.scale)
        self.register_buffer("key", self._by_head(key.weight))
        self.register_buffer("value", self._by_head(value.weight).transpose(1, 2).contiguous())
        self.out = _linear(out.weight, out.bias + out.weight @ value.bias)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(N, T, D), (N, S, D), (N, S, D) to (N, T, D)."""
        folded = (self._split_heads(self.query(queries)) @ self.key).flatten(1, 2)  # (N, A T, D)
        weights = torch.softmax(folded @ keys.transpose(1, 2), dim=-1)  # (N, A T, S)
        mixed = torch.unflatten((weights @ values), 1, (self.heads, -1))  # (N, A, T, D)
        attended: Tensor = self.out((mixed @ self.value).transpose(1, 2).flatten(2))
        return attended


class ImageToTokenAttention(FoldedAttention):
    """Queries are image tokens, keys and values are prompt tokens."""

    query: Tensor
    query_bias: Tensor
    out: Tensor
    out_bias: Tensor

    def __init__(self, attention: SamModule) -> None:
        super().__init__(attention)
        query, key, value, out = _projections(attention)
        self.key = _linear(key.weight * self.scale)
        self.register_buffer("query", self._by_head(query.weight))
        self.register_buffer("query_bias", self._by_head(query.bias[:, None]))
        self.value = _linear(value.weight)
        self.register_buffer("out", self._by_head(out.weight.T))
        # Weights sum to one in each head, so shares of the bias, one in each head, add up to it.
        out_bias = (out.bias + out.weight @ value.bias).detach() / self.heads
        self.register_buffer("out_bias", out_bias)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(N, S, D), (N, T, D), (N, T, D) to (N, S, D)."""
        key = self._split_heads(self.key(keys))  # (N, A, T, d)
        folded = (key @ self.query).flatten(1, 2)  # (N, A T, D)
        offset = (key @ self.query_bias).flatten(1, 2)  # (N, A T, 1)
        logits = folded @ queries.transpose(1, 2) + offset  # (N, A T, S)
        logits = torch.unflatten(logits, 1, (self.heads, -1))  # (N, A, T, S)
        # A softmax over T, written out: ONNX Runtime's own is slow for such short rows.
        weights = torch.exp(logits - logits.amax(2, keepdim=True))
        weights = (weights / weights.sum(2, keepdim=True)).flatten(1, 2)
        value = self._split_heads(self.value(values)) @ self.out + self.out_bias
        return weights.transpose(1, 2) @ value.flatten(1, 2)  # (N, S, A T), (N, A T, D)


class MaskChooser(nn.Module):
    """Which of SAM's four masks to return, their filters and their predicted IoUs."""

    is_one_of_three: Tensor

    def __init__(self, mask_decoder: SamModule) -> None:
        super().__init__()
        self.iou_head = mask_decoder.iou_prediction_head
        layers = list(
            zip(*(mlp.layers for mlp in mask_decoder.output_hypernetworks_mlps), strict=True)
        )
        self.weights = nn.ParameterList(
            torch.stack([linear.weight.detach().T for linear in layer]) for layer in layers
        )
        self.biases = nn.ParameterList(
            torch.stack([linear.bias.detach()[None] for linear in layer]) for layer in layers
        )
        self.register_buffer("is_one_of_three", torch.arange(mask_decoder.num_mask_tokens) > 0)

    def looked_at(self, choice: Tensor) -> Tensor:
        """(1) a `MaskChoice` to the masks that it is about, (J): 0 alone, 1 to 3, or all."""
        is_best = choice == MaskChoice.BEST_OF_THREE
        return torch.nonzero((self.is_one_of_three == is_best) | (choice == MaskChoice.ALL))[:, 0]

    def forward(self, tokens: Tensor, looked_at: Tensor, choice: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1 + J, D), the masks (J), the choice to filters (N, M, 32), predicted IoUs (N, M).

        Of all masks, or of the one with the best predicted IoU; of equal ones, the first.
        """
        ious = self.iou_head(tokens[:, 0]).index_select(1, looked_at)  # (N, J)
        filters = self._filters(tokens[:, 1:], looked_at)  # (N, J, 32)
        is_all = choice == MaskChoice.ALL
        returned = torch.nonzero(is_all | ~self.is_one_of_three)[:, 0]  # (M)
        best = torch.argmax(ious, dim=1, keepdim=True)  # (N, 1)
        index = torch.where(is_all, returned, best)  # (N, M)
        ious = ious.gather(1, index)
        return filters.gather(1, index[:, :, None].expand(-1, -1, filters.shape[2])), ious

    def _filters(self, tokens: Tensor, looked_at: Tensor) -> Tensor:
        """One small network per mask token: (N, J, D) to (N, J, 32)."""
        x = tokens.transpose(0, 1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight.index_select(0, looked_at) + bias.index_select(0, looked_at)
            if i + 1 < len(self.weights):
                x = F.relu(x)
        return x.transpose(0, 1)


class Upscaling(nn.Module):
    """Image tokens to masks of four times their resolution: they share all but the last product."""

    rows: Tensor
    columns: Tensor

    def __init__(self, upscaling: SamModule, grid: Sequence[int]) -> None:
        """`grid` is the (h, w) of the image tokens."""
        super().__init__()
        conv1, norm, _, conv2, _ = upscaling
        rows, columns = map(torch.arange, grid)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        self.linear1 = _per_pixel(conv1)
        self.norm = nn.LayerNorm(norm.weight.shape[0], eps=norm.eps)
        self.norm.load_state_dict(norm.state_dict())
        self.linear2 = _per_pixel(conv2)

    def forward(self, image: Tensor, filters: Tensor, kept: Tensor, size: Tensor) -> Tensor:
        """(N, S, D), (N, M, 32), V indices into N and (h_l, w_l) to (V, M, h_l, w_l)."""
        rows = torch.nonzero(4 * self.rows < size[0])  # (h_l / 4, 1)
        columns = torch.nonzero(4 * self.columns < size[1])[:, 0]  # (w_l / 4)
        places = (rows * self.columns.shape[0] + columns).flatten()  # (S')
        image = F.embedding(kept[:, None] * image.shape[1] + places, image.flatten(0, 1))

        x = torch.unflatten(self.linear1(image), -1, (4, -1))  # (V, S', 4, 64)
        x = F.gelu(self.linear2(F.gelu(self.norm(x))))  # (V, S', 4, 4 * 32)
        filters = filters.index_select(0, kept).transpose(1, 2)  # (V, 32, M)
        # Not len(): torch would need their values during the export.
        v, h, w, m = kept.shape[0], rows.shape[0], columns.shape[0], filters.shape[2]
        x = x.reshape(v, 16 * h * w, filters.shape[1]) @ filters
        x = x.reshape(v, h, w, 2, 2, 2, 2, m)  # y, x, then twice (dy, dx)
        x = x.permute(0, 7, 1, 3, 5, 2, 4, 6)
        return x.reshape(v, m, 4 * h, 4 * w)


def _projections(attention: SamModule) -> tuple[SamModule, ...]:
    return attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj


def _per_pixel(conv: SamModule) -> nn.Linear:
    """A 2x2 transposed convolution of stride 2 as a linear layer: (C_in) to (dy, dx, C_out)."""
    return _linear(conv.weight.permute(2, 3, 1, 0).flatten(0, 2), conv.bias.repeat(4))


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer with these parameters."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear
