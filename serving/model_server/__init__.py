"""An embedded model server that speaks tensorflow_model_server's flags, REST API and gRPC services.

Started as ``python -m serving.model_server --model_name=shop --model_base_path=DIR --rest_api_port=8501 --port=8500``.
A request travels ``http_server`` -> ``rest`` -> ``json_request`` -> ``manager`` -> ``bundle`` -> ``json_response``;
a version directory travels ``version_source`` -> ``version_policy`` -> ``manager`` -> ``loader`` -> ``bundle``;
an answered prediction goes on ``request_log`` -> ``log_file``.
"""
