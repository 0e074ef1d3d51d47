"""Names of fields and kinds in the records of LangChain, the providers and JSON Schema: structure, nobody's words."""

from __future__ import annotations

from typing import Final

FIELDS: Final = frozenset(
    {
        "accepted_prediction_tokens", "additional_kwargs", "additionalModelRequestFields", "additionalProperties",
        "annotations", "api_version", "arguments", "artifact", "audio_tokens", "avg_logprobs", "base_url",
        "block_reason", "blocked_reason", "bytes", "cache_control", "cache_creation", "cache_creation_input_tokens",
        "cache_read", "cache_read_input_tokens", "cache_write_tokens", "cached_content_token_count", "cached_tokens",
        "cachePoint", "cacheReadInputTokens", "cacheWriteInputTokens", "call_id", "candidates_token_count",
        "candidates_tokens_details", "char_location", "charged_tokens", "chunk_indices", "chunk_position",
        "citation_metadata", "cited_text", "completion_tokens", "completion_tokens_details", "confidence_scores",
        "content_blocks", "content_filter_results", "content_index", "content_type", "context_management",
        "cost_details", "created", "created_at", "defer_loading", "definitions", "description", "disabled_params",
        "document_index", "document_title", "done_reason", "enable_thinking", "encrypted_content", "encrypted_index",
        "end_block_index", "end_char_index", "end_index", "end_page_number", "ephemeral_1h_input_tokens",
        "ephemeral_5m_input_tokens", "eval_count", "eval_duration", "example", "exception", "exclusiveMaximum",
        "exclusiveMinimum", "extra_body", "extra_headers", "file_data", "file_id", "file_name", "file_search_call",
        "file_url", "filename", "finish_message", "finish_reason", "finishReason", "frequency_penalty",
        "function_call", "function_call_arguments", "functionCall", "functionResponse", "generation_info",
        "grounding_chunks", "grounding_metadata", "grounding_supports", "groundingMetadata", "headers", "HTTPHeaders",
        "HTTPStatusCode", "image_url", "include_usage", "incomplete_details", "index", "inference_geo",
        "inferenceConfig", "inlineData", "input_audio", "input_schema", "input_token_details", "input_tokens",
        "input_tokens_details", "inputSchema", "inputTokens", "invalid_tool_calls", "invocation_params", "is_blocked",
        "item_id", "json_schema", "latency", "latencyMs", "llm_output", "load_duration", "logit_bias", "logprobs",
        "max_completion_tokens", "max_output_tokens", "max_retries", "max_tokens", "maximum", "maxItems", "maxLength",
        "maxTokens", "media_type", "message_id", "mime_type", "mimeType", "minimum", "minItems", "minLength",
        "model_kwargs", "model_name", "model_provider", "model_version", "modelId", "native_finish_reason",
        "output_token_details", "output_tokens", "output_tokens_details", "outputTokens", "page_content",
        "parallel_tool_calls", "parameters", "partial_json", "partial_tool_call_index", "performanceConfig",
        "prediction", "presence_penalty", "previous_response_id", "prompt_cache_hit_tokens", "prompt_cache_key",
        "prompt_cache_miss_tokens", "prompt_eval_count", "prompt_eval_duration", "prompt_feedback",
        "prompt_filter_results", "prompt_token_count", "prompt_tokens", "prompt_tokens_details", "properties",
        "propertyOrdering", "reasoning", "reasoning_content", "reasoning_details", "reasoning_effort",
        "reasoning_token_count", "reasoning_tokens", "reasoningContent", "redacted_thinking", "refusal",
        "rejected_prediction_tokens", "RequestId", "required", "response_format", "response_id", "response_metadata",
        "response_mime_type", "response_modalities", "response_schema", "ResponseMetadata", "result_index",
        "retrieval_metadata", "retrieved_context", "RetryAttempts", "safety_feedback", "safety_ratings",
        "safety_settings", "safetyRatings", "search_entry_point", "search_result_index", "search_results", "seed",
        "server_tool_use", "service_tier", "signature", "start_block_index", "start_char_index", "start_index",
        "start_page_number", "stop_reason", "stop_sequence", "stop_sequences", "stopReason", "stream_options",
        "stream_usage", "streaming", "strict", "structured_output", "system_fingerprint", "temperature",
        "text_config", "thinking", "thinking_budget", "thinking_config", "thought", "thought_signature",
        "thoughts_token_count", "timeout", "token_count", "token_ids", "token_usage", "tool_call_chunks",
        "tool_call_id", "tool_calls", "tool_choice", "tool_config", "tool_use_id", "tool_use_prompt_token_count",
        "toolChoice", "toolConfig", "toolResult", "toolSpec", "toolUse", "toolUseId", "top_k", "top_logprobs",
        "top_p", "total_cost", "total_duration", "total_time", "total_token_count", "total_tokens", "totalTokens",
        "traffic_type", "transcript", "truncation", "uniqueItems", "upstream_inference_cost", "url_citation", "usage",
        "usage_metadata", "usageMetadata", "video_metadata", "web_fetch_requests", "web_search_call",
        "web_search_options", "web_search_queries", "web_search_requests",
    }
)  # fmt: skip
"""Names of fields in the records of LangChain and the providers, as far as they look like more than a plain word: what
else a record has as a key may be somebody's."""

KINDS: Final = frozenset(
    {
        # blocks of content, and what is in them
        "text", "text-plain", "plain_text", "text_delta", "image", "image_url", "input_image", "audio", "input_audio",
        "video", "file", "input_file", "document", "media", "base64", "url", "file_id", "tool_use", "tool_result",
        "tool_call", "tool_call_chunk", "invalid_tool_call", "server_tool_use", "server_tool_call",
        "server_tool_call_chunk", "server_tool_result", "web_search_call", "web_search_tool_result",
        "web_search_result", "web_search_tool_result_error", "file_search_call", "code_interpreter_call",
        "code_execution_tool_result", "computer_call", "image_generation_call", "mcp_call", "mcp_list_tools",
        "mcp_tool_use", "mcp_tool_result", "custom_tool_call", "thinking", "thinking_delta", "signature_delta",
        "redacted_thinking", "reasoning", "reasoning_content", "summary_text", "reasoning_text", "input_text",
        "output_text", "refusal", "function", "function_call", "function_call_output", "input_json_delta",
        "non_standard", "non_standard_annotation", "citation", "url_citation", "file_citation", "char_location",
        "page_location", "content_block_location", "search_result", "search_result_location", "citations_delta",
        "ephemeral", "json_schema", "json_object", "search", "open_page", "find_in_page", "custom", "message",
        # who speaks, and LangChain's classes
        "human", "ai", "system", "tool", "chat", "developer", "user", "assistant", "model", "remove",
        "humanmessagechunk", "aimessagechunk", "systemmessagechunk", "toolmessagechunk", "chatmessagechunk",
        "functionmessagechunk",
        "llmresult", "generation", "generationchunk", "chatgeneration", "chatgenerationchunk", "document_chunk",
        # JSON Schema
        "object", "string", "integer", "number", "boolean", "array", "null", "date", "time", "date-time", "email",
        "uri", "uuid",
        # how an answer ended
        "stop", "length", "end_turn", "tool_calls", "max_tokens", "stop_sequence", "content_filter", "content_filtered",
        "pause_turn", "safety", "recitation", "finish_reason_unspecified", "other", "eos", "model_length", "complete",
        "completed", "incomplete", "in_progress", "failed", "success", "error",
        # tiers, details, formats, and what an API calls its records
        "default", "standard", "standard_only", "on_demand", "auto", "flex", "priority", "batch", "low", "high",
        "medium", "original", "minimal", "none", "any", "wav", "mp3", "flac", "opus", "pcm16", "png", "jpeg", "webp",
        "pdf",
        "chat.completion", "chat.completion.chunk", "text_completion", "response", "list",
    }
)  # fmt: skip
