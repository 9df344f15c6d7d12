{{/* Metadata of an object for the monitoring stack: (dict "root" . "of" its values "suffix" of its name). */}}
{{- define "winnow.monitoring.metadata" -}}
name: {{ printf "%s%s" (include "winnow.fullname" .root) (.suffix | default "") | quote }}
namespace: {{ .of.namespace | default .root.Release.Namespace | quote }}
labels:
  {{- include "winnow.labels" .root | nindent 2 }}
  {{- with .of.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .of.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/*
What both monitors scrape: (dict "root" . "of" its values). The label job is the same in both, so that alerts and
autoscalers need not know which one is used. Where the server asks for a key, Prometheus shows it.
*/}}
{{- define "winnow.monitoring.endpoint" -}}
port: http
path: /metrics
interval: {{ .of.interval | quote }}
scrapeTimeout: {{ .of.scrapeTimeout | quote }}
{{- with include "winnow.apiKeySecret" .root }}
{{- if ne ($.of.namespace | default $.root.Release.Namespace) $.root.Release.Namespace }}
{{- fail (printf "A monitor is to lie in namespace %s and auth.apiKey is set, but the Prometheus operator reads the key from the monitor's own namespace only. Leave the namespace of the monitor empty." $.of.namespace) }}
{{- end }}
authorization:
  type: Bearer
  credentials:
    name: {{ quote . }}
    key: {{ $.root.Values.auth.apiKey.key | quote }}
{{- end }}
relabelings:
  - targetLabel: job
    replacement: {{ include "winnow.monitoring.job" .root | quote }}
  {{- with .of.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .of.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* The label job of this release's series. */}}
{{- define "winnow.monitoring.job" -}}
{{- .Values.monitoring.job | default (include "winnow.fullname" .) -}}
{{- end -}}

{{/* Matchers that only this release's series meet. */}}
{{- define "winnow.monitoring.matchers" -}}
namespace={{ .Release.Namespace | quote }},job={{ include "winnow.monitoring.job" . | quote }}
{{- end -}}

{{/*
One alert: (dict "root" . "alert" of rules/alerts.yaml "settings" of the values). Where the settings name no time, it
waits for as long as the startup probe does, and five minutes.
*/}}
{{- define "winnow.monitoring.rule" -}}
{{- $startup := .root.Values.probes.startup -}}
{{- $startSeconds := add 300 (mul $startup.failureThreshold $startup.periodSeconds) -}}
{{- $matchers := include "winnow.monitoring.matchers" .root -}}
{{- $expr := .alert.expr | replace "<release>" $matchers | replace "<threshold>" (toString .settings.threshold) -}}
- alert: {{ .alert.alert }}
  expr: |-
    {{- $expr | nindent 4 }}
  for: {{ .settings.for | default (printf "%ds" $startSeconds) | quote }}
  labels:
    severity: {{ .settings.severity | quote }}
    namespace: {{ .root.Release.Namespace | quote }}
    job: {{ include "winnow.monitoring.job" .root | quote }}
    {{- with .root.Values.monitoring.prometheusRule.alertLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    summary: {{ .alert.summary | quote }}
    description: {{ .alert.description | quote }}
    {{- with .root.Values.monitoring.prometheusRule.runbookUrl }}
    runbook_url: {{ printf "%s#%s" . (lower $.alert.alert) | quote }}
    {{- end }}
{{- end -}}
