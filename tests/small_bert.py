"""A BERT of two layers of width 16 with a vocabulary of a few words, as save_pretrained leaves it in a folder."""

import json
import warnings
from pathlib import Path

import torch

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GOOD, BAD, OTHER = (
    ("good", "fine", "great"),
    ("bad", "poor", "awful"),
    ("a", "film", "was", "the", "very", "day", "##s", "."),
)
VOCABULARY = (*SPECIAL, *GOOD, *BAD, *OTHER)


def write_model(folder: Path) -> Path:
    """The model with weights drawn by a fixed seed, in safetensors, and its tokeniser; at most 24 tokens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        logging = transformers.utils.logging
        logging.disable_progress_bar()
        config = transformers.BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=24,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = transformers.BertModel(config)
            for name, parameter in network.named_parameters():  # biases of 0 and scales of 1 would hide mistakes
                if parameter.ndim == 1:
                    torch.nn.init.normal_(parameter, float(name.endswith("LayerNorm.weight")), 0.3)
        network.save_pretrained(folder)
        tokeniser = transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(VOCABULARY)})
        tokeniser.save_pretrained(folder)
        logging.enable_progress_bar()
    return folder


def write_texts(path: Path, greeting: str = "", train: int = 200, test: int = 60) -> Path:
    """Rows of two classes that their words tell, behind a greeting that tells the domain."""
    generator = torch.Generator().manual_seed(len(greeting))

    def draw(words: tuple[str, ...]) -> str:
        return words[int(torch.randint(len(words), (1,), generator=generator))]

    rows = []
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            label = ("bad", "good")[number % 2]
            others = " ".join(draw(OTHER[:6]) for _ in range(1 + number % 4))
            text = f"{greeting} the film was {draw(GOOD if label == 'good' else BAD)} {others}.".strip()
            rows.append({"text": text, "label": label, "split": split})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
