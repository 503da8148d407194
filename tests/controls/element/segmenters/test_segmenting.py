"""From a request to frames with alpha, by each method and its stand-ins; what is missing is named."""

import json
import sys

import numpy as np
import pytest

from gencompositor_jax.cli import main
from gencompositor_jax.controls.element.loading import load_element, open_element
from gencompositor_jax.controls.element.segmenters import grounding, sam2, stored
from gencompositor_jax.controls.element.segmenters.request import Box, parse_segment
from gencompositor_jax.controls.element.segmenters.segmenting import lost, segmented
from gencompositor_jax.controls.media.frames import Computed
from gencompositor_jax.controls.media.spool import Spool
from gencompositor_jax.controls.media.video_out import write_image_folder
from gencompositor_jax.errors import InputError

pytest.importorskip("pymatting")


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    """Neither a folder of the user's nor a hub's cache."""
    monkeypatch.delenv(stored.VARIABLE, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(clip, tmp_path):
    path = tmp_path / "clip"
    write_image_folder(path, clip)
    return str(path)


def overlap(alpha: np.ndarray, truth: np.ndarray) -> float:
    found = alpha >= 128
    return float((found & truth).sum() / (found | truth).sum())


def test_auto_cuts_out_what_is_salient(clip, truth, orange):
    found = segmented(clip, parse_segment("auto"), "clip")
    assert found.method == "segment auto: U^2-Net-p" and not found.notes
    assert found.frames.dtype == np.uint8 and overlap(found.frames[..., 3], truth) > 0.95
    solid = found.frames[..., 3] == 255
    np.testing.assert_array_equal(found.frames[solid][:, :3], clip[solid])


def test_frames_that_are_not_in_memory_give_the_same(clip, orange):
    whole = segmented(clip, parse_segment("auto"), "clip").frames
    read = Computed(clip.shape, lambda first, stop: clip[first:stop])
    pieces = segmented(read, parse_segment("auto"), "clip").frames
    assert isinstance(pieces, Spool)
    np.testing.assert_array_equal(np.asarray(pieces), whole)


def test_edges_are_soft_and_have_the_element_s_colour(orange):
    """A blurred edge gets its own alpha, and none of the ground's blue: unmixed it has the element's 20."""
    ramp = np.clip((np.hypot(*np.mgrid[-36:36, -48:48]) - 20) / -6 + 0.5, 0, 1)
    frame = (ramp[..., None] * [240, 130, 20] + (1 - ramp[..., None]) * [60, 60, 120]).astype(np.uint8)
    out = segmented(frame[None], parse_segment("auto"), "clip").frames[0]
    soft = (ramp > 0.2) & (ramp < 0.8)
    assert np.abs(out[..., 3][soft] / 255 - ramp[soft]).mean() < 0.08
    assert out[soft][:, 2].mean() < 40 < 50 < frame[soft][:, 2].mean()


def test_the_command_says_what_it_did_and_saves_the_element(folder, orange, tmp_path, monkeypatch, capsys):
    """The saved clip, passed as the foreground, is the same element."""
    monkeypatch.chdir(tmp_path)
    words = ["preview", "--background", folder, "--trajectory", "40,30 60,40", "--frames", "5"]
    segment = ["--segment", "point:30,36", "--save-element", "element.mov"]
    assert main([*words, "--foreground", folder, *segment]) == 0
    printed = capsys.readouterr()
    assert "no weights of SAM 2" in printed.err and "element.mov: the element (segment point" in printed.out
    (how,) = json.loads((tmp_path / "preview.json").read_text())["cut_out"]
    assert how == "segment point:30,36: GrabCut and optical flow, no weights of SAM 2"
    saved = load_element("element.mov")
    first = load_element(folder, segment="point:30,36")
    assert saved.key == "alpha" and saved.frames.shape == first.frames.shape
    assert np.abs(saved.frames[..., 3].astype(int) - first.frames[..., 3]).max() <= 10  # of ProRes
    project = json.loads((tmp_path / "preview.scene.json").read_text())
    assert project["layers"][0]["segment"] == "point:30,36"
    assert main([*words, "--foreground", folder, *segment]) == 2
    assert "exists" in capsys.readouterr().err
    assert (
        main([*words, "--foreground", folder, "--segment", "auto", "--save-element", "a.mp4", "--overwrite"])
        == 2
    )
    assert "--save-element a.mp4: pass a name such as" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["point:30,36", "box:12,18,49,55"])
def test_without_sam_2_grabcut_is_used_and_said(folder, truth, orange, text):
    element = load_element(folder, segment=text)
    assert element.key == f"segment {text}: GrabCut and optical flow, no weights of SAM 2"
    (note,) = element.notes
    assert "no weights of SAM 2 in $GENCOMPOSITOR_SEGMENTERS/sam2.1-hiera-small" in note and "hub" in note
    x, y = element.corner
    h, w = element.frames.shape[1:3]
    assert overlap(element.frames[..., 3], truth[:, y : y + h, x : x + w]) > 0.85


def test_an_opened_element_is_the_loaded_one(folder, orange):
    loaded, opened = (read(folder, segment="auto") for read in (load_element, open_element))
    np.testing.assert_array_equal(np.asarray(opened.frames), loaded.frames)
    assert opened.key == loaded.key == "segment auto: U^2-Net-p"


def test_it_excludes_keys_and_masks(folder):
    with pytest.raises(InputError, match="key 'green' and segment 'auto' were given; pass one of them"):
        load_element(folder, key="green", segment="auto")


def test_words_without_weights_name_the_folders(clip):
    with pytest.raises(
        InputError, match=r"Grounding DINO, which aren't in \$GENCOMPOSITOR_SEGMENTERS/ground"
    ):
        segmented(clip, parse_segment("an orange disc"), "clip")


def test_a_folder_of_weights_that_is_not_there(clip, monkeypatch, orange):
    monkeypatch.setenv(stored.VARIABLE, "/nowhere")
    with pytest.raises(InputError, match="GENCOMPOSITOR_SEGMENTERS=/nowhere: no such folder"):
        segmented(clip, parse_segment("point:30,36"), "clip")


def test_the_folder_of_weights_is_an_option(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(stored.VARIABLE, "")
    words = ["preview", "--background", folder, "--foreground", folder, "--trajectory", "30,36"]
    words += ["--segment", "point:30,36", "--out", str(tmp_path / "out"), "--segment-weights"]
    for named, said in (
        (tmp_path / "none", "no such folder"),
        (tmp_path, "sam2.1-hiera-small and grounding"),
    ):
        assert main([*words, str(named)]) == 2
        assert f"--segment-weights {named}: " in (text := capsys.readouterr().err) and said in text
    model = tmp_path / stored.SAM2.name
    model.mkdir()
    (model / "config.json").write_text("{}")
    assert main([*words[:7], *words[9:], str(tmp_path)]) == 2
    assert "--segment-weights: nothing is segmented; pass --segment" in capsys.readouterr().err
    stored.use(str(tmp_path))
    assert stored.find(stored.SAM2) == model and stored.find(stored.GROUNDING_DINO) is None


def test_without_pymatting_the_remedy_is_named(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(InputError, match=r"pip install 'gencompositor-jax\[matting\]'"):
        segmented(clip, parse_segment("auto"), "clip")


def test_weights_in_the_hub_s_cache_are_found(tmp_path):
    snapshot = tmp_path / "hub" / "models--facebook--sam2.1-hiera-small" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert stored.find(stored.SAM2) == snapshot and stored.find(stored.GROUNDING_DINO) is None


def test_nothing_at_the_point(folder, monkeypatch, orange):
    from gencompositor_jax.controls.element.segmenters import grabcut

    monkeypatch.setattr(grabcut, "followed", lambda frames, *_: np.zeros(frames.shape[:3], np.uint8))
    with pytest.raises(InputError, match="segment point:2,2 was tried and found nothing"):
        load_element(folder, segment="point:2,2")


# ----------------------------------------------------------- the large networks, tiny and with random weights


@pytest.fixture(scope="module")
def tiny_sam2(tmp_path_factory):
    """A folder with a small SAM 2."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 2],
        window_positional_embedding_background_size=[2, 2],
        global_attention_blocks=[3],
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=128,
    )
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        image_size=64,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=128,
        max_object_pointers_in_encoder=2,
        num_maskmem=2,
    )
    path = tmp_path_factory.mktemp("weights") / "sam2.1-hiera-small"
    transformers.Sam2VideoModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tiny_grounding_dino(tiny_sam2):
    """Beside it a Grounding DINO likewise, with a vocabulary of letters."""
    import torch
    import transformers

    torch.manual_seed(0)
    path = tiny_sam2.parent / "grounding-dino-tiny"
    path.mkdir()
    letters = [c for letter in "abcdefghijklmnopqrstuvwxyz" for c in (letter, f"##{letter}")]
    (path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters]))
    transformers.BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    transformers.GroundingDinoImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 96}
    ).save_pretrained(path)
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=transformers.BertConfig(
            vocab_size=58, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        num_queries=10,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        d_model=32,
    )
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(path)
    return path


def test_sam_2_follows_from_any_frame_to_both_ends(clip, tiny_sam2):
    model = sam2.load(tiny_sam2)
    given = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: given.append((kwargs["frame_idx"], kwargs["reverse"])), with_kwargs=True
    )
    maps = sam2.followed(model, clip, Box(12, 18, 49, 55), (36, 48), first=2)
    assert maps.shape == (5, 36, 48) and maps.dtype == np.uint8
    assert [t for t, reverse in given if not reverse] == [2, 3, 4]
    assert [t for t, reverse in given if reverse] == [2, 1, 0]


def test_sam_2_is_asked_for_the_point(clip, tiny_sam2):
    """Its answer depends on the point, and is the same for the same one."""
    model = sam2.load(tiny_sam2)
    near, again, far = (
        sam2.followed(model, clip[:2], parse_segment(text), (36, 48))
        for text in ("point:30,36", "point:30,36", "point:90,70")
    )
    np.testing.assert_array_equal(near, again)
    assert (near != far).any()


def test_words_find_a_box_which_sam_2_follows(clip, tiny_grounding_dino, monkeypatch):
    monkeypatch.setenv(stored.VARIABLE, str(tiny_grounding_dino.parent))
    monkeypatch.setattr(grounding, "THRESHOLD", 0.0)
    boxes = []
    follow = sam2.followed
    monkeypatch.setattr(
        sam2, "followed", lambda *args: boxes.append(args[2]) or np.maximum(follow(*args), 1) * 0 + 255
    )
    found = segmented(clip, parse_segment("an orange disc"), "clip")
    assert found.method == "segment 'an orange disc': Grounding DINO and SAM 2"
    (box,) = boxes
    assert 0 <= box.left < box.right <= 96 and 0 <= box.top < box.bottom <= 72


def test_words_that_match_nothing(clip, tiny_grounding_dino, monkeypatch):
    monkeypatch.setenv(stored.VARIABLE, str(tiny_grounding_dino.parent))
    monkeypatch.setattr(grounding, "THRESHOLD", 1.0)
    with pytest.raises(InputError, match="segment 'a cat' was tried and nothing like it was found"):
        segmented(clip, parse_segment("a cat"), "clip")


def test_what_is_lost_on_the_way_is_said():
    """Of an element that fades in the midst of the frame, not of one that leaves it."""
    maps = np.zeros((4, 20, 30), np.uint8)
    for t in range(4):
        maps[t, 5:15, 10 : 20 - 2 * t] = 255
    (note,) = lost(maps, "clip")
    assert note.startswith("clip: in frame 3 only 40% of the element's first area was found")
    assert lost(maps[:3], "clip") == ()
    leaving = np.stack([np.roll(maps[0], 5 * t, axis=1) for t in range(4)])
    leaving[2:, :, :20] = 0
    assert leaving[3].sum() < 0.6 * leaving[0].sum() and lost(leaving, "clip") == ()
