import numpy as np

from assay.instruction_data.retrieval import search_passages


def test_the_closest_by_cosine_and_the_first_of_equal_ones() -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(1300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions, passages = vectors[:1000], vectors[1000:]
    found = search_passages(questions, passages, 5)
    expected = np.argsort(-(questions.astype(np.float64) @ passages.T.astype(np.float64)), axis=1)[:, :5]
    assert (found == expected).mean() > 0.999
    equal = np.repeat(passages[:2], [5, 1], axis=0)
    assert search_passages(passages[:1], equal, 3).tolist() == [[0, 1, 2]]
    assert search_passages(questions[:1], passages[:2], 4)[0, 2:].tolist() == [-1, -1]
    assert search_passages(questions[:2], passages[:0], 1).tolist() == [[-1], [-1]]
    assert search_passages(questions[:0], passages, 2).shape == (0, 2)
