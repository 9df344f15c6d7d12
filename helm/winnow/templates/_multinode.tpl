{{/* The leader starts Ray, then the server in the place of the shell, so that the server gets the signal to stop. */}}
{{- define "winnow.leaderCommand" -}}
command:
  - /bin/sh
  - -c
  - |
    set -e
    ray start --head --port={{ .Values.multiNode.rayPort | int }} --node-ip-address="$VLLM_HOST_IP" --include-dashboard=false --disable-usage-stats
    exec python3 -m server "$@"
  - server
{{- end -}}

{{/*
A worker joins the leader's Ray, trying again until it can, and then stays as long as that answers. It takes no notice
of the signal to stop, which reaches all pods at once: the leader drains its requests first, and its end is the worker's.
*/}}
{{- define "winnow.workerProcess" -}}
command:
  - /bin/sh
  - -c
  - |
    leader_answers() {
      python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)' \
        "$LWS_LEADER_ADDRESS" {{ .Values.multiNode.rayPort | int }} 2>/dev/null
    }
    trap 'exit 0' TERM
    until leader_answers && ray start --address="$LWS_LEADER_ADDRESS:{{ .Values.multiNode.rayPort | int }}" --node-ip-address="$VLLM_HOST_IP" --disable-usage-stats; do
      sleep 2
    done
    trap : TERM
    while leader_answers || { sleep 5 && leader_answers; }; do
      sleep 2
    done
    exit 1
env:
  {{- include "winnow.environment" . | trim | nindent 2 }}
{{- end -}}
