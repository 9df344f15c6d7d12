"""/v1/responses through the official SDK."""

from tests.server.harness import NUM_LAYERS, wait_until


def respond(client, **options):
    defaults = {"model": "demo", "max_output_tokens": 8, "temperature": 0, "extra_body": {"sparsity_p": 0.6}}
    return client.responses.create(**{**defaults, **options})


def with_picture(picture_url):
    content = [{"type": "input_image", "image_url": picture_url, "detail": "auto"},
               {"type": "input_text", "text": "what color is the square ?"}]  # fmt: skip
    return [{"role": "user", "content": content}]


def test_whole_response(client, picture_url):
    response = respond(client, input=with_picture(picture_url))
    assert response.usage.sparsity["sparsity_p"] == 0.6
    assert all(4 <= kept < response.usage.input_tokens for kept in response.usage.sparsity["kept_tokens_per_layer"])
    assert response.kv_transfer_params is None


def test_stream_has_the_figures_in_response_completed(client, picture_url):
    events = list(respond(client, input=with_picture(picture_url), stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    whole = respond(client, input=with_picture(picture_url))
    assert events[-1].response.usage.sparsity == whole.usage.sparsity


def test_one_is_dense(client):
    usage = respond(client, input="what color is the square ?", extra_body={"sparsity_p": 1}).usage
    assert usage.sparsity["kept_tokens_per_layer"] == [usage.input_tokens] * NUM_LAYERS


def test_background_response(client):
    queued = respond(client, input="what color is the square ?", background=True, store=True)
    wait_until(lambda: client.responses.retrieve(queued.id).status != "queued", 30, "the background response")
    assert client.responses.retrieve(queued.id).usage.sparsity["sparsity_p"] == 0.6
