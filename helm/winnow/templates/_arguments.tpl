{{/* Options of `python3 -m server`, one YAML list entry each. */}}
{{- define "winnow.arguments" -}}
{{- $model := .Values.model -}}
{{- $sparsity := .Values.sparsity -}}
{{- $arguments := list "--model" $model.name "--served-model-name" (include "winnow.servedName" .) -}}
{{- $arguments = concat $arguments (list "--host" "0.0.0.0" "--port" "8000") -}}
{{- range $option, $value := dict "--revision" $model.revision "--tokenizer" $model.tokenizer "--dtype" $model.dtype -}}
{{- if $value -}}
{{- $arguments = concat $arguments (list $option $value) -}}
{{- end -}}
{{- end -}}
{{- with $model.maxModelLen | int64 -}}
{{- $arguments = concat $arguments (list "--max-model-len" (toString .)) -}}
{{- end -}}
{{- $arguments = concat $arguments (list "--sparsity-p" (float64 $sparsity.default | toJson) "--selection" $sparsity.selection) -}}
{{- $arguments = concat $arguments (list "--min-sparsity-p" (float64 $sparsity.min | toJson) "--max-sparsity-p" (float64 $sparsity.max | toJson)) -}}
{{- if gt (int .Values.parallel.tensor) 1 -}}
{{- $arguments = concat $arguments (list "--tensor-parallel-size" (.Values.parallel.tensor | int | toString)) -}}
{{- end -}}
{{- if .Values.multiNode.enabled -}}
{{- $arguments = concat $arguments (list "--distributed-executor-backend" "ray") -}}
{{- end -}}
{{- $arguments = concat $arguments (list "--shutdown-timeout" (.Values.shutdown.drainSeconds | int | toString)) -}}
{{- range concat $arguments .Values.extraArgs }}
- {{ toJson . }}
{{- end -}}
{{- end -}}

{{/*
Environment of the server and of its workers, as YAML list entries. What extraEnv sets replaces the chart's own:
server-side apply refuses a name that stands twice.
*/}}
{{- define "winnow.environment" -}}
{{- $given := list -}}
{{- range .Values.extraEnv }}{{ $given = append $given .name }}{{ end -}}
{{- range include "winnow.ownEnvironment" . | fromYamlArray -}}
{{- if not (has .name $given) }}
- {{ toYaml . | nindent 2 | trim }}
{{- end -}}
{{- end -}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{- define "winnow.ownEnvironment" -}}
# Caches of compilers and libraries go to a writable folder.
- {name: HOME, value: /home/vllm}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
{{- if include "winnow.isBundled" . }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- else }}
- {name: HF_HOME, value: /cache/huggingface}
{{- with include "winnow.tokenSecret" . }}
- {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: {{ quote . }}, key: {{ $.Values.huggingface.token.key | quote }}}}}
{{- end }}
{{- end }}
{{- if not .Values.gpu.enabled }}
# vLLM would take and bind every core of the node; the pod has only what it asks for, and none to itself.
- {name: VLLM_CPU_OMP_THREADS_BIND, value: nobind}
{{- range list "requests" "limits" }}
{{- if hasKey (get $.Values.resources . | default dict) "cpu" }}
- {name: OMP_NUM_THREADS, valueFrom: {resourceFieldRef: {containerName: server, resource: {{ . }}.cpu}}}
{{- break }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.multiNode.enabled }}
- {name: VLLM_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
{{- end }}
{{- end -}}

{{/* The key that requests must carry, under the name that vLLM reads and that clients of OpenAI's library set. */}}
{{- define "winnow.apiKeyVariable" -}}
{{- with include "winnow.apiKeySecret" .root -}}
- name: {{ $.variable }}
  valueFrom:
    secretKeyRef:
      name: {{ quote . }}
      key: {{ $.root.Values.auth.apiKey.key | quote }}
{{- end -}}
{{- end -}}
